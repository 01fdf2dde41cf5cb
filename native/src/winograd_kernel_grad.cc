// The kernel gradient by Winograd's minimal filtering: the formula of winograd.cc, transposed in k.
//
//   gk = G^T [ sum over tiles (A g A^T) . (B^T d B) ] G
//
// where the sum over tiles makes each of the 36 planes a matrix product. It is cut into blocks and
// slices by the shapes alone, so its order is, too. As there, a result that is not finite is
// computed again by direct convolution.

#include <atomic>

#include "winograd_tiles.h"

namespace convax::winograd {
namespace {

// All of these decide the order of sums, so none depends on lanes or threads.
constexpr Index kGradChannels = 64;           // of the input in one task
constexpr Index kGradBlock = 192 * 1024;      // floats of a block's planes
constexpr Index kGradSums = 4 * 1024 * 1024;  // floats of all slices' sums together
constexpr Index kMostTiles = 256;             // of a block
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

}  // namespace

void kernel_grad(const Conv& c, const float* x, const float* g, float* gk, Executor& executor) {
  if (is_empty(c) || !sum_products(c, x, g, gk, executor)) {
    direct::kernel_grad(c, x, g, gk, executor);
  }
}

}  // namespace convax::winograd
