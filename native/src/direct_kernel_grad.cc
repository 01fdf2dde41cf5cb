// The kernel gradient of direct convolution: a sum over places.
//
//   gk[u, c, o] = sum_{n,i} x[n, s i + d u - p, c] g[n, i, o]
//
// Scalars come from x, vectors from g. A block of places is added up in registers, then to the sums
// in memory: short sums round less than one long one. The blocks are shared out among slices, whose
// sums are added at the end. Blocks and slices are cut by the shapes alone, so the bits are, too;
// where the gradient is large there are few slices, and tasks share its panels instead.

#include <numeric>

#include "scratch.h"
#include "window.h"

namespace convax::direct {
namespace {

constexpr Index kBlock = 128;             // places added up in registers
constexpr Index kMostSlices = 16;         // as many threads are kept busy
constexpr Index kSums = 2 * 1024 * 1024;  // floats of all slices' sums together

// Writes channels [o, o + width) of g's places, one after the other.
template <Index V>
void fill_panel(const float* g, Index places, Index Co, Index o, float* panel) {
  for (Index place = 0; place < places; ++place, g += Co, panel += V * kLanes) {
    for (Index v = 0; v < V; ++v) {
      const Index channel = o + v * kLanes;
      store(panel + v * kLanes, channel < Co ? load(g + channel, Co - channel) : Vector{});
    }
  }
}

}  // namespace

void kernel_grad(const Conv& c, const float* x, const float* g, float* gk, Executor& executor) {
  const Index taps = c.rows.window * c.columns.window, Co = c.out;
  const Index length = multiply_sizes(taps, c.in), places = c.rows.output * c.columns.output;
  if (c.batch * places == 0) {
    std::fill(gk, gk + length * Co, 0.0f);
    return;
  }
  if (length * Co == 0) return;
  const Image in{c.rows.size, c.columns.size, c.in};
  const Phases all_rows = forward_phases(c.rows), all_columns = forward_phases(c.columns);
  const Phase& rows = all_rows[0];
  const Frame frame(in, all_rows, all_columns);
  std::vector<Index> elements;  // that a place at the origin meets, in the order of the rows of gk
  for (const Run& run : frame.runs(rows, all_columns[0])) {
    for (Index i = 0; i < run.length; ++i) elements.push_back(run.offset + i);
  }

  // A block is a few rows of one image, or a few small images.
  const Index fit = std::clamp<Index>(kBlock / c.columns.output, 1, rows.count);
  const Index blocks = ceil_div(rows.count, fit), block = ceil_div(rows.count, blocks);
  const Index together = std::clamp<Index>(kBlock / places, 1, c.batch);
  const Index groups = ceil_div(c.batch, together);
  const Index most = std::clamp<Index>(kSums / (length * Co), 1, kMostSlices);
  const Index slices = std::min(most, groups);
  const Index panels = ceil_div(Co, kPanel);
  const Index shares = std::min(panels, ceil_div(kMostSlices, slices));

  const Index source_rows = rows.highest(block - 1) + 1 - rows.lowest(0);
  const Index source = round_up(frame.scratch(together, source_rows), kLine);
  const Scratch scratch(executor.workers(), source + together * block * c.columns.output * kPanel);
  const Scratch sums(slices, panel_floats(length, Co));
  executor.run(slices * shares, [&](Index task, Index worker) {
    const Index slice = task / shares, share = task % shares;
    const Index first = share * panels / shares * kPanel;
    const Index last = std::min((share + 1) * panels / shares * kPanel, Co);
    float* sum = sums[slice] + first * length;
    std::fill(sum, sum + panel_floats(length, last - first), 0.0f);
    float* panel = scratch[worker] + source;
    for (Index group = slice * groups / slices; group < (slice + 1) * groups / slices; ++group) {
      const Index image = group * together, images = std::min(together, c.batch - image);
      for (Index begin = 0; begin < rows.count; begin += block) {
        const Index end = std::min(begin + block, rows.count);
        const Index top = rows.lowest(begin), bottom = rows.highest(end - 1) + 1;
        const float* from = frame.rows(x + image * in.size(), images, top, bottom, scratch[worker]);
        const Walk walk{images,
                        end - begin,
                        c.columns.output,
                        frame.step(bottom - top),
                        rows.stride * frame.pitch(),
                        c.columns.stride * c.in};
        const float* of_block = g + (image * places + begin * c.columns.output) * Co;
        for (Index o = first; o < last; o += kPanel) {
          const bool narrow = panel_width(Co - o) == kLanes;
          (narrow ? fill_panel<1> : fill_panel<kVectors>)(of_block, walk.places(), Co, o, panel);
          (narrow ? add_all_products<1> : add_all_products<kVectors>)(length, from, walk,
                                                                      elements.data(), panel,
                                                                      sums[slice] + o * length);
        }
      }
    }
  });

  executor.run(taps, [&](Index tap, Index) {
    for (Index r = tap * c.in; r < (tap + 1) * c.in; ++r) {
      for (Index o = 0; o < Co; o += kLanes) {
        const Index at = panel_offset(r, o, length, Co);
        Vector total = load(sums[0] + at);
        for (Index slice = 1; slice < slices; ++slice) total += load(sums[slice] + at);
        store(gk + r * Co + o, total, Co - o);
      }
    }
  });
}

}  // namespace convax::direct
