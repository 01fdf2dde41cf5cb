// Memory for one call: allocated before its tasks begin, which so cannot fail.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "kernels.h"

namespace convax {

constexpr Index kLine = 16;                     // floats of a cache line
constexpr Index kMostScratch = Index{1} << 34;  // floats; beyond it a size is a mistake

// a b, or std::bad_alloc if that is no size of memory.
inline Index multiply_sizes(Index a, Index b) {
  Index product;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) || product > kMostScratch) {
    throw std::bad_alloc();
  }
  return product;
}

// `pieces` arrays of `size` floats each, uninitialized, none sharing a cache line with another.
class Scratch {
 public:
  Scratch(Index pieces, Index size) : step_((multiply_sizes(size, 1) + kLine - 1) / kLine * kLine) {
    const Index floats = multiply_sizes(pieces, step_);
    const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
    data_.reset(static_cast<float*>(std::aligned_alloc(kLine * sizeof(float), bytes)));
    if (bytes > 0 && data_ == nullptr) throw std::bad_alloc();
  }
  float* operator[](Index piece) const { return data_.get() + piece * step_; }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  Index step_;
  std::unique_ptr<float, Free> data_;
};

}  // namespace convax
