// Winograd's minimal filtering, F(4x4, 3x3): convolution and its two gradients with a quarter of
// the multiplications (36 in place of 144 for a tile of 4 x 4 outputs).
//
//   y  = A^T [ (G k G^T) . (B^T d B) ] A        d: a tile of 6 x 6 inputs, y: of 4 x 4 outputs
//   gk = G^T [ (A g A^T) . (B^T d B) ] G        summed over all tiles
//
// where . multiplies element by element, in 36 planes, and products over channels (or sums over
// tiles) make each plane a matrix product. The input gradient is the convolution of g with the
// kernel flipped and its channels swapped. The second line is the first, transposed in k.
//
// The matrices come from polynomials that are multiplied at points 0, +-a, +-b and infinity. The
// usual points 1 and 2 are exact in few operations and lose up to 1.2e-5 of the largest element;
// the points 5/8 and 3/2 lose up to 3.1e-6, at the same speed (docs/native.md says of what). With
// p_j the finite points and M(t) = prod_j (t - p_j):
//
//   A^T[i][j] = p_j^i,  G[j][i] = p_j^i / M'(p_j),  B^T[j] = the coefficients of M(t) / (t - p_j),
//
// and for infinity the last unit vectors of A^T and G, and the coefficients of M(t) itself.
//
// An infinity, a NaN or an overflow spreads over its tile. A result that is not finite is therefore
// computed again, all of it, by direct convolution.
//
// References:
//   Lavin & Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.
//   Barabasz et al., Error analysis and improving the accuracy of Winograd convolution for deep
//   neural networks, arXiv:1803.10986 (on the choice of points).

#include <atomic>

#include "scratch.h"
#include "tiles.h"
#include "window.h"

namespace convax::winograd {
namespace {

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

// ------------------------------------------------------------------------------------- tiles

// The tiles of a batch, image after image and row after row.
struct Tiles {
  Index batch, rows, columns;
  explicit Tiles(const Conv& c)
      : batch(c.batch),
        rows(ceil_div(c.rows.output, kOut)),
        columns(ceil_div(c.columns.output, kOut)) {}
  Index count() const { return batch * rows * columns; }
};

// A square of `Side` x `Side` elements of one image, from (row, column) on, which may lie outside.
template <Index Side>
struct Square {
  Index image, row, column;

  // Of channels [c, c + kLanes); zeros outside.
  void read(const float* images, const Image& shape, Index c, Vector (&v)[Side * Side]) const {
    for (Index i = 0; i < Side; ++i) {
      for (Index j = 0; j < Side; ++j) {
        const bool inside = is_inside(shape, i, j);
        v[i * Side + j] =
            inside ? load(images + at(shape, i, j) + c, shape.channels - c) : Vector{};
      }
    }
  }
  void write(float* images, const Image& shape, Index c, const Vector (&v)[Side * Side]) const {
    for (Index i = 0; i < Side; ++i) {
      for (Index j = 0; j < Side; ++j) {
        if (is_inside(shape, i, j)) {
          store(images + at(shape, i, j) + c, v[i * Side + j], shape.channels - c);
        }
      }
    }
  }

 private:
  bool is_inside(const Image& shape, Index i, Index j) const {
    return row + i >= 0 && row + i < shape.height && column + j >= 0 && column + j < shape.width;
  }
  Index at(const Image& shape, Index i, Index j) const {
    return image * shape.size() + ((row + i) * shape.width + column + j) * shape.channels;
  }
};

Square<kIn> input_square(const Conv& c, const Tiles& tiles, Index tile) {
  const Index column = tile % tiles.columns, row = tile / tiles.columns % tiles.rows;
  return {tile / tiles.columns / tiles.rows, row * kOut - c.rows.low,
          column * kOut - c.columns.low};
}

Square<kOut> output_square(const Tiles& tiles, Index tile) {
  const Index column = tile % tiles.columns, row = tile / tiles.columns % tiles.rows;
  return {tile / tiles.columns / tiles.rows, row * kOut, column * kOut};
}

Image input_image(const Conv& c) { return {c.rows.size, c.columns.size, c.in}; }
Image output_image(const Conv& c) { return {c.rows.output, c.columns.output, c.out}; }

// 36 planes of the same shape. A cache line between them: of a power of two apart, all of them
// would fall on the same few sets of the cache.
struct Planes {
  float* data;
  Index step;
  static Index step_of(Index floats) { return round_up(floats, kLine) + kLine; }
  static Index floats(Index plane) { return kPlanes * step_of(plane); }
  Planes(float* data, Index plane) : data(data), step(step_of(plane)) {}
  float* operator[](Index plane) const { return data + plane * step; }

  void read(Index offset, Vector (&v)[kPlanes]) const {
    for (Index p = 0; p < kPlanes; ++p) v[p] = load(data + p * step + offset);
  }
  void write(Index offset, const Vector (&v)[kPlanes]) const {
    for (Index p = 0; p < kPlanes; ++p) store(data + p * step + offset, v[p]);
  }
};

// B^T d B of channels [first, first + channels) of one tile, to `offset` of each plane.
void transform_input(const Conv& c, const Tiles& tiles, const float* x, Index tile, Index first,
                     Index channels, const Planes& planes, Index offset) {
  const auto square = input_square(c, tiles, tile);
  Vector d[kPlanes], v[kPlanes];
  for (Index i = 0; i < channels; i += kLanes) {
    square.read(x, input_image(c), first + i, d);
    transform<InputTransform>(d, v);
    planes.write(offset + i, v);
  }
}

// Lanes that are not finite stay so however often they are added to; others add zero.
bool is_finite(Vector sum_of_zeros) {
  for (Index lane = 0; lane < kLanes; ++lane) {
    if (!(sum_of_zeros[lane] == 0)) return false;
  }
  return true;
}

// ------------------------------------------------------------------- convolution, input gradient

constexpr Index kBlock = 128 * 1024;  // floats of a block of tiles' planes: the second-level cache
constexpr Index kMostTiles = 256;

// G k G^T of input channel c, for all output channels, in panels.
void transform_kernel(const Conv& conv, const float* k, Index c, const Planes& u) {
  Vector taps[kWindow * kWindow], planes[kPlanes];
  for (Index o = 0; o < conv.out; o += kLanes) {
    for (Index tap = 0; tap < kWindow * kWindow; ++tap) {
      taps[tap] = load(k + (tap * conv.in + c) * conv.out + o, conv.out - o);
    }
    transform<KernelTransform>(taps, planes);
    u.write(panel_offset(c, o, conv.in, conv.out), planes);
  }
}

// One plane of a block of tiles: m = v u.
template <Index V>
void multiply_panel(Index tiles, Index in, const float* v, const float* panel, float* m,
                    Index out) {
  constexpr Index P = kPlaces<V>;
  const Run all{0, in};
  const float* from[P];
  float* to[P];
  for (Index tile = 0; tile < tiles; tile += P) {
    for (Index p = 0; p < P; ++p) {  // past the end the last tile is repeated, and not stored
      const Index t = std::min(tile + p, tiles - 1);
      from[p] = v + t * round_up(in, kLanes);
      to[p] = m + t * out;
    }
    multiply_runs<P, V>(from, to, std::min(P, tiles - tile), panel, &all, 1, V * kLanes, false);
  }
}

void multiply_planes(const Conv& c, Index tiles, const Planes& v, const Planes& u,
                     const Planes& m) {
  const Index out = round_up(c.out, kLanes);
  for (Index plane = 0; plane < kPlanes; ++plane) {
    for (Index o = 0; o < c.out; o += kPanel) {
      const auto multiply =
          panel_width(c.out - o) == kLanes ? multiply_panel<1> : multiply_panel<kVectors>;
      multiply(tiles, c.in, v[plane], u[plane] + o * c.in, m[plane] + o, out);
    }
  }
}

// A^T m A of one tile, to y; returns whether all of it is finite.
bool transform_output(const Conv& c, const Square<kOut>& square, const Planes& m, Index offset,
                      float* y) {
  Vector planes[kPlanes], out[kOut * kOut], zeros{};
  for (Index o = 0; o < c.out; o += kLanes) {
    m.read(offset + o, planes);
    transform<OutputTransform>(planes, out);
    square.write(y, output_image(c), o, out);
    for (const Vector& v : out) zeros = fma(0.0f, v, zeros);
  }
  return is_finite(zeros);
}

// Returns whether all of y is finite.
bool correlate(const Conv& c, const float* x, const float* k, float* y, Executor& executor) {
  const Tiles tiles(c);
  const Index in = round_up(c.in, kLanes), out = round_up(c.out, kLanes);
  const Scratch kernel(1, Planes::floats(panel_floats(c.in, c.out)));
  const Planes u(kernel[0], panel_floats(c.in, c.out));

  // Blocks change no sum, so they may follow the cache, and the number of threads.
  constexpr Index P = kPlaces<kVectors>;
  const Index share = ceil_div(tiles.count(), executor.workers());
  const Index fit = std::clamp(kBlock / (kPlanes * (in + out)), 2 * P, kMostTiles);
  const Index block = round_up(std::min(fit, share), P);
  const Index blocks = ceil_div(tiles.count(), block);
  const Index of_v = Planes::floats(block * in), of_m = Planes::floats(block * out);
  const Scratch scratch(executor.workers(), of_v + of_m);

  executor.run(c.in, [&](Index channel, Index) { transform_kernel(c, k, channel, u); });
  std::atomic<bool> finite{true};
  executor.run(blocks, [&](Index task, Index worker) {
    const Index first = task * block, count = std::min(block, tiles.count() - first);
    const Planes v(scratch[worker], block * in), m(scratch[worker] + of_v, block * out);
    for (Index t = 0; t < count; ++t) {
      transform_input(c, tiles, x, first + t, 0, c.in, v, t * in);
    }
    multiply_planes(c, count, v, u, m);
    for (Index t = 0; t < count; ++t) {
      if (!transform_output(c, output_square(tiles, first + t), m, t * out, y)) finite = false;
    }
  });
  return finite;
}

// The convolution whose output is the input gradient: of g, with the kernel flipped and swapped.
Conv transposed(const Conv& c) {
  const auto axis = [](const Axis& a) {
    return Axis{a.output, a.window, a.size, 1, 1, kWindow - 1 - a.low};
  };
  return {c.batch, c.out, c.in, 1, axis(c.rows), axis(c.columns)};
}

void flip_and_swap(const Conv& c, const float* k, float* flipped, Executor& executor) {
  constexpr Index kSquare = 16;  // channels a side that are swapped at a time, within the cache
  constexpr Index taps = kWindow * kWindow;
  const Index stripes = ceil_div(c.in, kSquare);
  executor.run(taps * stripes, [&](Index task, Index) {
    const Index tap = task / stripes, first = task % stripes * kSquare;
    const float* from = k + (taps - 1 - tap) * c.in * c.out;
    float* to = flipped + tap * c.in * c.out;
    for (Index o = 0; o < c.out; o += kSquare) {
      for (Index i = first; i < std::min(first + kSquare, c.in); ++i) {
        for (Index j = o; j < std::min(o + kSquare, c.out); ++j) {
          to[j * c.in + i] = from[i * c.out + j];
        }
      }
    }
  });
}

// ------------------------------------------------------------------------------ kernel gradient

// All of these decide the order of sums, so none depends on lanes or threads.
constexpr Index kGradChannels = 64;           // of the input in one task
constexpr Index kGradBlock = 192 * 1024;      // floats of a block's planes
constexpr Index kGradSums = 4 * 1024 * 1024;  // floats of all slices' sums together
constexpr Index kMostSlices = 16;             // as many threads are kept busy

// A g A^T of one tile, to each plane's panels of `tiles` rows.
void transform_output_grad(const Conv& c, const Square<kOut>& square, const float* g, Index row,
                           Index tiles, const Planes& planes) {
  Vector in[kOut * kOut], d[kPlanes];
  for (Index o = 0; o < c.out; o += kLanes) {
    square.read(g, output_image(c), o, in);
    transform<OutputTransposed>(in, d);
    planes.write(panel_offset(row, o, tiles, c.out), d);
  }
}

// What a block of tiles adds to each plane's sums, `channels` x out in panels.
void add_planes(const Conv& c, Index tiles, Index channels, const Planes& v, const Planes& d,
                const Planes& sums) {
  Index elements[kGradChannels];
  for (Index i = 0; i < channels; ++i) elements[i] = i;
  const Walk walk{1, 1, tiles, 0, 0, round_up(channels, kLanes)};
  for (Index plane = 0; plane < kPlanes; ++plane) {
    for (Index o = 0; o < c.out; o += kPanel) {
      const auto add =
          panel_width(c.out - o) == kLanes ? add_all_products<1> : add_all_products<kVectors>;
      add(channels, v[plane], walk, elements, d[plane] + o * tiles, sums[plane] + o * channels);
    }
  }
}

// Returns whether all of gk is finite.
bool sum_products(const Conv& c, const float* x, const float* g, float* gk, Executor& executor) {
  const Tiles tiles(c);
  const Index parts = ceil_div(c.in, kGradChannels), most = std::min(c.in, kGradChannels);
  const Index block = std::clamp<Index>(kGradBlock / (kPlanes * (most + c.out)), 32, kMostTiles);
  const Index blocks = ceil_div(tiles.count(), block);
  const Index fit = kGradSums / multiply_sizes(kPlanes * c.in, c.out);
  const Index slices = std::min(std::clamp<Index>(fit, 1, kMostSlices), blocks);
  const auto channels_of = [&](Index part) {
    return std::min(kGradChannels, c.in - part * kGradChannels);
  };

  const Index plane = panel_floats(most, c.out);
  const Scratch sums(slices * parts, Planes::floats(plane));
  const Index of_v = Planes::floats(block * round_up(most, kLanes));
  const Scratch scratch(executor.workers(), of_v + Planes::floats(panel_floats(block, c.out)));
  executor.run(slices * parts, [&](Index task, Index worker) {
    const Index slice = task / parts, part = task % parts, channels = channels_of(part);
    const Planes sum(sums[task], plane);
    std::fill(sum[0], sum[0] + Planes::floats(plane), 0.0f);
    const Planes v(scratch[worker], block * round_up(most, kLanes));
    const Planes d(scratch[worker] + of_v, panel_floats(block, c.out));
    for (Index b = slice * blocks / slices; b < (slice + 1) * blocks / slices; ++b) {
      const Index first = b * block, count = std::min(block, tiles.count() - first);
      for (Index t = 0; t < count; ++t) {
        transform_input(c, tiles, x, first + t, part * kGradChannels, channels, v,
                        t * round_up(channels, kLanes));
        transform_output_grad(c, output_square(tiles, first + t), g, t, count, d);
      }
      add_planes(c, count, channels, v, d, sum);
    }
  });

  std::atomic<bool> finite{true};
  executor.run(c.in, [&](Index i, Index) {
    const Index part = i / kGradChannels, row = i % kGradChannels, channels = channels_of(part);
    Vector total[kPlanes], other[kPlanes], taps[kWindow * kWindow], zeros{};
    for (Index o = 0; o < c.out; o += kLanes) {
      const Index at = panel_offset(row, o, channels, c.out);
      Planes(sums[part], plane).read(at, total);
      for (Index slice = 1; slice < slices; ++slice) {
        Planes(sums[slice * parts + part], plane).read(at, other);
        for (Index p = 0; p < kPlanes; ++p) total[p] += other[p];
      }
      transform<KernelTransposed>(total, taps);
      for (Index tap = 0; tap < kWindow * kWindow; ++tap) {
        store(gk + (tap * c.in + i) * c.out + o, taps[tap], c.out - o);
        zeros = fma(0.0f, taps[tap], zeros);
      }
    }
    if (!is_finite(zeros)) finite = false;
  });
  return finite;
}

bool is_empty(const Conv& c) {
  return c.batch == 0 || c.in == 0 || c.out == 0 || c.rows.size == 0 || c.columns.size == 0 ||
         c.rows.output == 0 || c.columns.output == 0;
}

}  // namespace

bool fits(const Conv& c) {
  const auto axis = [](const Axis& a) {
    return a.window == kWindow && a.stride == 1 && a.dilation == 1;
  };
  return c.groups == 1 && axis(c.rows) && axis(c.columns);
}

void conv(const Conv& c, const float* x, const float* k, float* y, Executor& executor) {
  if (is_empty(c) || !correlate(c, x, k, y, executor)) direct::conv(c, x, k, y, executor);
}

void input_grad(const Conv& c, const float* g, const float* k, float* gx, Executor& executor) {
  if (!is_empty(c)) {
    const Scratch flipped(1, kWindow * kWindow * multiply_sizes(c.in, c.out));
    flip_and_swap(c, k, flipped[0], executor);
    if (correlate(transposed(c), g, flipped[0], gx, executor)) return;
  }
  direct::input_grad(c, g, k, gx, executor);
}

void kernel_grad(const Conv& c, const float* x, const float* g, float* gk, Executor& executor) {
  if (is_empty(c) || !sum_products(c, x, g, gk, executor)) {
    direct::kernel_grad(c, x, g, gk, executor);
  }
}

}  // namespace convax::winograd
