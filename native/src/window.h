// Which elements of an image a window meets, and the rows of an image with their padding.
#pragma once

#include <utility>
#include <vector>

#include "tiles.h"

namespace convax {

// The m-th place of a phase meets element stride m + shift of the source through tap `index`.
struct Tap {
  Index shift, index;
};

// Along one axis, the output places first, first + every, ... which all meet the same taps.
struct Phase {
  Index first, every, count, stride;
  std::vector<Tap> taps;  // by ascending shift

  Index lowest(Index m) const { return stride * m + taps.front().shift; }
  Index highest(Index m) const { return stride * m + taps.back().shift; }
};
using Phases = std::vector<Phase>;

// The places of y, which meet elements of x.
Phases forward_phases(const Axis& axis);
// The places of gx, which meet elements of g; with a stride s they fall into s phases.
Phases transposed_phases(const Axis& axis);

struct Image {
  Index height, width, channels;
  Index size() const { return height * width * channels; }
};

// The rectangle of an image that the output meets, padding included.
struct Frame {
  Image source;
  Index top, bottom, left, right;

  Frame(const Image& image, const Phases& rows, const Phases& columns);

  bool padded() const {
    return top < 0 || left < 0 || bottom > source.height || right > source.width;
  }
  // Floats from one row to the next, and from one image to the next, of what `rows` returns.
  Index pitch() const { return (padded() ? right - left : source.width) * source.channels; }
  Index step(Index rows) const { return padded() ? rows * pitch() : source.size(); }
  // Floats of scratch that so many rows of so many images need.
  Index scratch(Index images, Index rows) const;
  // Rows [begin, end) of each of `count` images: themselves, or a padded copy in `scratch`.
  const float* rows(const float* images, Index count, Index begin, Index end, float* scratch) const;
  // What the place at the origin of the frame meets, tap after tap; neighbors are one run.
  std::vector<Run> runs(const Phase& rows, const Phase& columns) const;
};

}  // namespace convax
