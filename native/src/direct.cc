// Direct convolution and its input gradient: sums over the taps of the window and the channels.
//
// One loop serves both: the input gradient is the convolution of g with the swapped kernel. With a
// stride s the places j of gx fall into s phases, j mod s, each of which meets its own taps only
// (`transposed_phases`), so that no product with a zero is computed.
//
// What makes it fast is memory order. A few rows of x at a time are copied with their padding into
// a scratch that stays in the second-level cache; there the taps along one row of the window and
// their channels follow each other, and are one long run. The kernel is packed into panels, in the
// order in which it is read, and cut so that it stays in the first-level cache.
//
// Each result is one sum in the order (u, v, c) of its taps, from zero: no block changes its bits.

#include "scratch.h"
#include "window.h"

namespace convax::direct {
namespace {

constexpr Index kChunk = 384;          // rows of a panel that stay in the first-level cache
constexpr Index kScratch = 32 * 1024;  // floats of x that stay in the second-level cache

struct Kernel {
  const float* data;
  Index width, in, out;  // of the window, and channels of source and output
  bool swapped;          // stored as (height, width, out, in)
};

// Of one phase of rows with one of columns: what to read beside the packed kernel, and where it is.
struct Part {
  const Phase *rows, *columns;
  Index length;  // rows of a panel
  Index panels;  // offset of its first panel
  std::vector<std::vector<Run>> chunks;
};

// Cuts runs so that each chunk has nearly the same length, at most kChunk.
std::vector<std::vector<Run>> cut(const std::vector<Run>& runs, Index length) {
  const Index count = std::max<Index>(1, ceil_div(length, kChunk));
  std::vector<std::vector<Run>> chunks(count);
  Index done = 0, chunk = 0;
  for (Run run : runs) {
    while (run.length > 0) {
      const Index end = (chunk + 1) * length / count;
      const Index n = std::min(run.length, end - done);
      chunks[chunk].push_back({run.offset, n});
      run.offset += n;
      run.length -= n;
      if ((done += n) == end) ++chunk;
    }
  }
  return chunks;
}

// Writes the panel of channels [o, o + n) for one part's taps.
void pack(const Kernel& k, const Part& part, Index o, float* panel) {
  const Index width = panel_width(k.out - o), n = std::min(width, k.out - o);
  std::fill(panel, panel + part.length * width, 0.0f);
  for (const Tap& u : part.rows->taps) {
    for (const Tap& v : part.columns->taps) {
      const float* tap = k.data + (u.index * k.width + v.index) * k.in * k.out;
      if (k.swapped) {
        for (Index j = 0; j < n; ++j) {
          for (Index c = 0; c < k.in; ++c) panel[c * width + j] = tap[(o + j) * k.in + c];
        }
      } else {
        for (Index c = 0; c < k.in; ++c) std::copy_n(tap + c * k.out + o, n, panel + c * width);
      }
      panel += k.in * width;
    }
  }
}

struct Source {
  const float* data;
  Index pitch, channels;
};

struct Output {
  float* data;
  Index width, channels;
  float* at(Index row, Index column) const { return data + (row * width + column) * channels; }
};

// One chunk for rows [begin, end) of one part's places; `x` begins where row `begin` does.
template <Index V>
void multiply_rows(const Part& part, const std::vector<Run>& chunk, Index begin, Index end,
                   const Source& x, const float* panel, const Output& y, Index channels, bool add) {
  constexpr Index P = kPlaces<V>;
  const Phase &rows = *part.rows, &columns = *part.columns;
  const Index places = (end - begin) * columns.count;
  Index row = 0, column = 0;
  const float* from[P];
  float* to[P];
  for (Index place = 0; place < places; place += P) {
    for (Index p = 0; p < P; ++p) {  // past the end the last place is repeated, and not stored
      from[p] = x.data + row * rows.stride * x.pitch + column * columns.stride * x.channels;
      to[p] = y.at(rows.first + rows.every * (begin + row), columns.first + columns.every * column);
      if (place + p + 1 < places && ++column == columns.count) column = 0, ++row;
    }
    multiply_runs<P, V>(from, to, std::min(P, places - place), panel, chunk.data(),
                        static_cast<Index>(chunk.size()), channels, add);
  }
}

// Rows [begin, end) of one part's places, all channels.
void multiply_part(const Part& part, Index begin, Index end, const Source& x, const float* panel,
                   float* y, const Image& out) {
  for (Index o = 0; o < out.channels; o += kPanel) {
    const Index width = panel_width(out.channels - o), channels = std::min(width, out.channels - o);
    const Output to{y + o, out.width, out.channels};
    const auto multiply = width == kLanes ? multiply_rows<1> : multiply_rows<kVectors>;
    bool add = false;
    for (const auto& chunk : part.chunks) {
      multiply(part, chunk, begin, end, x, panel, to, channels, add);
      add = true;
      for (const Run& run : chunk) panel += run.length * width;
    }
  }
}

void correlate(Index batch, const float* x, const Image& in, const Kernel& kernel, float* y,
               const Image& out, const Phases& rows, const Phases& columns, Executor& executor) {
  if (batch * out.size() == 0) return;
  const Frame frame(in, rows, columns);
  std::vector<Part> parts;
  Index packed = 0;
  for (const Phase& r : rows) {
    for (const Phase& c : columns) {
      const Index length = static_cast<Index>(r.taps.size() * c.taps.size()) * kernel.in;
      parts.push_back({&r, &c, length, packed, cut(frame.runs(r, c), length)});
      packed += panel_floats(length, out.channels);
    }
  }
  const Scratch panels(1, packed);
  const Index per_part = ceil_div(out.channels, kPanel);
  executor.run(static_cast<Index>(parts.size()) * per_part, [&](Index task, Index) {
    const Part& part = parts[task / per_part];
    const Index o = task % per_part * kPanel;
    pack(kernel, part, o, panels[0] + part.panels + o * part.length);
  });

  // A block is a few rows of one image; no phase has more rows than the first.
  const Index count = rows[0].count, stride = rows[0].stride;
  const Index fit = kScratch / std::max<Index>(1, stride * frame.pitch());
  const Index blocks = ceil_div(count, std::clamp<Index>(fit, 1, count));
  const Index block = ceil_div(count, blocks);
  // The rows of the source that a block meets: of the first block, as many as of any.
  const auto bottom_of = [&](Index begin) {
    Index bottom = frame.top + stride * begin;
    for (const Phase& r : rows) {
      const Index end = std::min(begin + block, r.count);
      if (begin < end && !r.taps.empty()) bottom = std::max(bottom, r.highest(end - 1) + 1);
    }
    return bottom;
  };
  const Scratch scratch(executor.workers(), frame.scratch(1, bottom_of(0) - frame.top));
  executor.run(batch * blocks, [&](Index task, Index worker) {
    const Index n = task / blocks, begin = task % blocks * block;
    const float* from = frame.rows(x + n * in.size(), 1, frame.top + stride * begin,
                                   bottom_of(begin), scratch[worker]);
    for (const Part& part : parts) {
      multiply_part(part, begin, std::min(begin + block, part.rows->count),
                    {from, frame.pitch(), in.channels}, panels[0] + part.panels, y + n * out.size(),
                    out);
    }
  });
}

}  // namespace

bool fits(const Conv& c) { return c.groups == 1; }

void conv(const Conv& c, const float* x, const float* k, float* y, Executor& executor) {
  correlate(c.batch, x, {c.rows.size, c.columns.size, c.in},
            {k, c.columns.window, c.in, c.out, false}, y, {c.rows.output, c.columns.output, c.out},
            forward_phases(c.rows), forward_phases(c.columns), executor);
}

void input_grad(const Conv& c, const float* g, const float* k, float* gx, Executor& executor) {
  correlate(c.batch, g, {c.rows.output, c.columns.output, c.out},
            {k, c.columns.window, c.out, c.in, true}, gx, {c.rows.size, c.columns.size, c.in},
            transposed_phases(c.rows), transposed_phases(c.columns), executor);
}

}  // namespace convax::direct
