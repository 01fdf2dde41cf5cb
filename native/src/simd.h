// Vectors of floats as wide as the processor that this file is compiled for has them.
//
// Lanes are always channels that are computed side by side, never terms of one sum: so the width
// changes no bit. Products are added by `fma` alone where their rounding matters, and the sources
// are compiled with -ffp-contract=off: the compiler fuses nothing by its own choice.
#pragma once

#include <cstring>

#include "kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace convax {

#if defined(__AVX512F__)
constexpr Index kLanes = 16;
constexpr Index kRegisters = 32;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr Index kLanes = 8;
constexpr Index kRegisters = 16;
#else
constexpr Index kLanes = 4;
constexpr Index kRegisters = 16;
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector v) { *reinterpret_cast<Vector*>(to) = v; }
inline Vector broadcast(float value) { return Vector{} + value; }

// a b + c, rounded once where the processor can.
inline Vector fma(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
inline Vector fma(float a, Vector b, Vector c) { return fma(broadcast(a), b, c); }

// The first `count` lanes, 0 < count; zeros behind them. No byte beyond them is touched. A
// sanitizer does not see through masks, so under one they are copied.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONVAX_COPY_LANES 1
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
inline __m256i mask_of(Index count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
}
#endif

inline Vector load(const float* from, Index count) {
  if (count >= kLanes) return load(from);
#if defined(__AVX512F__) && !defined(CONVAX_COPY_LANES)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#elif defined(__AVX2__) && !defined(CONVAX_COPY_LANES)
  return _mm256_maskload_ps(from, mask_of(count));
#else
  Vector v{};
  std::memcpy(&v, from, static_cast<std::size_t>(count) * sizeof(float));
  return v;
#endif
}

inline void store(float* to, Vector v, Index count) {
  if (count >= kLanes) return store(to, v);
#if defined(__AVX512F__) && !defined(CONVAX_COPY_LANES)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v);
#elif defined(__AVX2__) && !defined(CONVAX_COPY_LANES)
  _mm256_maskstore_ps(to, mask_of(count), v);
#else
  std::memcpy(to, &v, static_cast<std::size_t>(count) * sizeof(float));
#endif
}

}  // namespace convax
