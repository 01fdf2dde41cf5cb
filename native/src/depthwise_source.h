// What depthwise convolution reads: images, of which each channel is convolved by itself.
#pragma once

#include "scratch.h"
#include "window.h"

namespace convax::depthwise {

struct Source {
  const float* data;
  Image image;
  Phases rows, columns;  // of the places over it
};

// A source with its padding written out, if there is some.
//
// The kernels leave out what lies in the padding. But zeros times an infinity or a NaN are NaN, so
// where there is one they compute with this.
class Padded {
 public:
  Padded(Index batch, const Source& source);
  const Source& source() const { return source_; }

 private:
  Frame frame_;
  Scratch scratch_;
  Source source_;
};

bool is_finite(const float* array, Index size);

}  // namespace convax::depthwise
