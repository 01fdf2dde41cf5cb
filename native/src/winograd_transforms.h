// Winograd's minimal filtering, F(4x4, 3x3): the matrices.
//
//   y  = A^T [ (G k G^T) . (B^T d B) ] A        d: a tile of 6 x 6 inputs, y: of 4 x 4 outputs
//   gk = G^T [ (A g A^T) . (B^T d B) ] G        summed over all tiles
//
// They come from polynomials that are multiplied at points 0, +-a, +-b and infinity. The usual
// points 1 and 2 are exact in few operations and lose up to 1.2e-5 of the largest element; the
// points 5/8 and 3/2 lose up to 3.1e-6, at the same speed (docs/native.md says of what). With p_j
// the finite points and M(t) = prod_j (t - p_j):
//
//   A^T[i][j] = p_j^i,  G[j][i] = p_j^i / M'(p_j),  B^T[j] = the coefficients of M(t) / (t - p_j),
//
// and for infinity the last unit vectors of A^T and G, and the coefficients of M(t) itself.
//
// References:
//   Lavin & Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.
//   Barabasz et al., Error analysis and improving the accuracy of Winograd convolution for deep
//   neural networks, arXiv:1803.10986 (on the choice of points).
#pragma once

#include "simd.h"

namespace convax::winograd {

constexpr Index kOut = 4, kWindow = 3, kIn = kOut + kWindow - 1;  // F(kOut, kWindow)
constexpr Index kPlanes = kIn * kIn;

constexpr double kA = 5.0 / 8, kB = 3.0 / 2;
constexpr double kA2 = kA * kA, kB2 = kB * kB;
// 1 / M'(p) at 0, +-a and +-b, and M(t) = t^5 - kSum t^3 + kProduct t.
constexpr double kG0 = 1 / (kA2 * kB2), kGa = 1 / (2 * kA2 * (kA2 - kB2)),
                 kGb = 1 / (2 * kB2 * (kB2 - kA2));
constexpr double kSum = kA2 + kB2, kProduct = kA2 * kB2;

// ---------------------------------------------------------------- transforms along one axis
// Each reads vectors `step` apart and writes them `step_out` apart. The points p and -p share their
// even and odd powers.

constexpr float f(double value) { return static_cast<float>(value); }

// Even and odd parts at the points +-a and +-b, which are rows 1 to 4 of what has six.
struct Parts {
  Vector even_a, odd_a, even_b, odd_b;

  void write(Vector* rows, Index step) const {
    rows[step] = even_a + odd_a;
    rows[2 * step] = even_a - odd_a;
    rows[3 * step] = even_b + odd_b;
    rows[4 * step] = even_b - odd_b;
  }
  static Parts read(const Vector* rows, Index step) {
    return {rows[step] + rows[2 * step], rows[step] - rows[2 * step],
            rows[3 * step] + rows[4 * step], rows[3 * step] - rows[4 * step]};
  }
};

// B^T: 6 to 6.
struct InputTransform {
  static constexpr Index kFrom = kIn, kTo = kIn;
  static void apply(const Vector* d, Index step, Vector* v, Index step_out) {
    const Vector d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
                 d5 = d[5 * step];
    const Parts parts{fma(f(-kB2), d2, d4), f(kA) * fma(f(-kB2), d1, d3),
                      fma(f(-kA2), d2, d4), f(kB) * fma(f(-kA2), d1, d3)};
    v[0] = fma(f(kProduct), d0, fma(f(-kSum), d2, d4));
    parts.write(v, step_out);
    v[5 * step_out] = fma(f(kProduct), d1, fma(f(-kSum), d3, d5));
  }
};

// A^T: 6 to 4.
struct OutputTransform {
  static constexpr Index kFrom = kIn, kTo = kOut;
  static void apply(const Vector* m, Index step, Vector* y, Index step_out) {
    const auto [even_a, odd_a, even_b, odd_b] = Parts::read(m, step);
    y[0] = m[0] + even_a + even_b;
    y[step_out] = fma(f(kA), odd_a, f(kB) * odd_b);
    y[2 * step_out] = fma(f(kA2), even_a, f(kB2) * even_b);
    y[3 * step_out] = fma(f(kA * kA2), odd_a, fma(f(kB * kB2), odd_b, m[5 * step]));
  }
};

// A: 4 to 6.
struct OutputTransposed {
  static constexpr Index kFrom = kOut, kTo = kIn;
  static void apply(const Vector* g, Index step, Vector* d, Index step_out) {
    const Vector g0 = g[0], g1 = g[step], g2 = g[2 * step], g3 = g[3 * step];
    const Parts parts{fma(f(kA2), g2, g0), f(kA) * fma(f(kA2), g3, g1),
                      fma(f(kB2), g2, g0), f(kB) * fma(f(kB2), g3, g1)};
    d[0] = g0;
    parts.write(d, step_out);
    d[5 * step_out] = g3;
  }
};

// G: 3 to 6.
struct KernelTransform {
  static constexpr Index kFrom = kWindow, kTo = kIn;
  static void apply(const Vector* k, Index step, Vector* u, Index step_out) {
    const Vector k0 = k[0], k1 = k[step], k2 = k[2 * step];
    const Parts parts{f(kGa) * fma(f(kA2), k2, k0), f(kA * kGa) * k1,
                      f(kGb) * fma(f(kB2), k2, k0), f(kB * kGb) * k1};
    u[0] = f(kG0) * k0;
    parts.write(u, step_out);
    u[5 * step_out] = k2;
  }
};

// G^T: 6 to 3.
struct KernelTransposed {
  static constexpr Index kFrom = kIn, kTo = kWindow;
  static void apply(const Vector* u, Index step, Vector* k, Index step_out) {
    const auto [sum_a, odd_a, sum_b, odd_b] = Parts::read(u, step);
    const Vector even_a = f(kGa) * sum_a, even_b = f(kGb) * sum_b;
    k[0] = fma(f(kG0), u[0], even_a + even_b);
    k[step_out] = fma(f(kA * kGa), odd_a, f(kB * kGb) * odd_b);
    k[2 * step_out] = fma(f(kA2), even_a, fma(f(kB2), even_b, u[5 * step]));
  }
};

// T X T^t: along the rows, then along the columns.
template <class T>
void transform(const Vector (&from)[T::kFrom * T::kFrom], Vector (&to)[T::kTo * T::kTo]) {
  Vector half[T::kTo * T::kFrom];
  for (Index column = 0; column < T::kFrom; ++column) {
    T::apply(from + column, T::kFrom, half + column, T::kFrom);
  }
  for (Index row = 0; row < T::kTo; ++row) {
    T::apply(half + row * T::kFrom, 1, to + row * T::kTo, 1);
  }
}

}  // namespace convax::winograd
