// Convolution and its input gradient by Winograd's minimal filtering, with a quarter of the
// multiplications (36 in place of 144 for a tile of 4 x 4 outputs).
//
//   y = A^T [ (G k G^T) . (B^T d B) ] A
//
// where . multiplies element by element, in 36 planes, and the sum over channels makes each plane a
// matrix product. The input gradient is the convolution of g with the kernel flipped and its
// channels swapped.
//
// An infinity, a NaN or an overflow spreads over its tile. A result that is not finite is therefore
// computed again, all of it, by direct convolution.

#include <atomic>

#include "winograd_tiles.h"

namespace convax::winograd {
namespace {

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

}  // namespace convax::winograd
