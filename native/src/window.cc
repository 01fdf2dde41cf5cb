#include "window.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <tuple>

#include "scratch.h"

namespace convax {

namespace {

constexpr Index kMost = Index{1} << 31;  // a few sums and products of two are an Index, too
constexpr Index kMostOffset = Index{1} << 62;

// Whether a product is larger than `most`; of an array without elements, that of its other sizes.
bool too_many(std::initializer_list<Index> shape, Index most) {
  Index product = 1;
  for (Index n : shape) {
    if (__builtin_mul_overflow(product, std::max<Index>(n, 1), &product) || product > most) {
      return true;
    }
  }
  return false;
}

// The most elements from the first place that the output meets to the last.
Index span(const Axis& a) { return a.stride * a.output + a.dilation * a.window; }

}  // namespace

const char* find_fault(const Conv& conv, const float* a, const float* b, const float* result) {
  for (const float* array : {a, b, result}) {
    if (reinterpret_cast<std::uintptr_t>(array) % alignof(float)) return "an array is misaligned";
  }
  for (Index n : {conv.batch, conv.in, conv.out}) {
    if (n < 0 || n > kMost) return "a number of examples or channels is out of range";
  }
  if (conv.groups != 1 && (conv.groups != conv.in || conv.groups != conv.out || conv.in == 0)) {
    return "a number of groups is out of range";
  }
  for (const Axis* a : {&conv.rows, &conv.columns}) {
    if (a->size < 0 || a->size > kMost || a->output < 0 || a->output > kMost) {
      return "a spatial size is out of range";
    }
    if (a->window < 1 || a->window > kMost) return "a window is out of range";
    if (a->stride < 1 || a->stride > kMost) return "a stride is out of range";
    if (a->dilation < 1 || a->dilation > kMost) return "a dilation is out of range";
    if (a->low < -kMost || a->low > kMost) return "a padding is out of range";
    // What the windows span: rows of it are copied.
    if (a->output > 0 && a->stride > kMost / a->output) return "windows reach too far";
    if (a->dilation > kMost / a->window) return "windows reach too far";
  }
  const Axis &r = conv.rows, &c = conv.columns;
  if (too_many({conv.batch, r.size, c.size, conv.in}, kMostScratch) ||
      too_many({r.window, c.window, conv.in / conv.groups, conv.out}, kMostScratch) ||
      too_many({conv.batch, r.output, c.output, conv.out}, kMostScratch)) {
    return "an array is too large";
  }
  if (too_many({span(r), span(c), std::max(conv.in, conv.out)}, kMostOffset)) {
    return "windows reach too far";
  }
  return nullptr;
}

Phases forward_phases(const Axis& a) {
  Phase phase{0, 1, a.output, a.stride, {}};
  for (Index u = 0; u < a.window; ++u) phase.taps.push_back({a.dilation * u - a.low, u});
  return {phase};
}

Phases transposed_phases(const Axis& a) {
  Phases phases;
  for (Index first = 0; first < std::min(a.stride, a.size); ++first) {
    Phase phase{first, a.stride, ceil_div(a.size - first, a.stride), 1, {}};
    for (Index u = a.window - 1; u >= 0; --u) {
      const Index reach = first + a.low - a.dilation * u;
      if (reach % a.stride == 0) phase.taps.push_back({reach / a.stride, u});
    }
    phases.push_back(std::move(phase));
  }
  return phases;
}

namespace {

// The lowest element that any phase meets, and one past the highest.
std::pair<Index, Index> span_of(const Phases& phases) {
  Index low = INT64_MAX, high = INT64_MIN;
  for (const Phase& phase : phases) {
    if (phase.taps.empty()) continue;
    low = std::min(low, phase.lowest(0));
    high = std::max(high, phase.highest(phase.count - 1) + 1);
  }
  return low < high ? std::pair{low, high} : std::pair<Index, Index>{0, 0};
}

}  // namespace

Frame::Frame(const Image& image, const Phases& rows, const Phases& columns) : source(image) {
  std::tie(top, bottom) = span_of(rows);
  std::tie(left, right) = span_of(columns);
}

Index Frame::scratch(Index images, Index rows) const {
  if (!padded()) return 0;
  const Index pitch = multiply_sizes(right - left, source.channels);
  return multiply_sizes(images, multiply_sizes(rows, pitch));
}

const float* Frame::rows(const float* images, Index count, Index begin, Index end,
                         float* scratch) const {
  const Index C = source.channels;
  if (!padded()) return images + (begin * source.width + left) * C;
  const Index from = std::clamp<Index>(0, left, right);
  const Index to = std::clamp(source.width, from, right);
  float* out = scratch;
  for (Index n = 0; n < count; ++n, images += source.size()) {
    for (Index row = begin; row < end; ++row, out += pitch()) {
      if (row < 0 || row >= source.height || from >= to) {
        std::fill(out, out + pitch(), 0.0f);
        continue;
      }
      std::fill(out, out + (from - left) * C, 0.0f);
      std::copy_n(images + (row * source.width + from) * C, (to - from) * C,
                  out + (from - left) * C);
      std::fill(out + (to - left) * C, out + pitch(), 0.0f);
    }
  }
  return scratch;
}

std::vector<Run> Frame::runs(const Phase& rows, const Phase& columns) const {
  std::vector<Run> runs;
  const Index C = source.channels;
  for (const Tap& u : rows.taps) {
    bool first = true;  // a row of the window never continues the row before
    for (const Tap& v : columns.taps) {
      const Index offset = (u.shift - top) * pitch() + (v.shift - left) * C;
      if (!first && runs.back().offset + runs.back().length == offset) {
        runs.back().length += C;
      } else {
        runs.push_back({offset, C});
      }
      first = false;
    }
  }
  return runs;
}

}  // namespace convax
