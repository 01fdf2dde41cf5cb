#include "depthwise_source.h"

#include <algorithm>

namespace convax::depthwise {

Padded::Padded(Index batch, const Source& source)
    : frame_(source.image, source.rows, source.columns),
      scratch_(1, frame_.scratch(batch, frame_.bottom - frame_.top)),
      source_(source) {
  if (!frame_.padded()) return;
  const Index top = frame_.top, left = frame_.left;
  source_.data = frame_.rows(source.data, batch, top, frame_.bottom, scratch_[0]);
  source_.image = {frame_.bottom - top, frame_.right - left, source.image.channels};
  for (Phase& phase : source_.rows) {
    for (Tap& tap : phase.taps) tap.shift -= top;
  }
  for (Phase& phase : source_.columns) {
    for (Tap& tap : phase.taps) tap.shift -= left;
  }
}

bool is_finite(const float* array, Index size) {
  float zeros = 0;  // and stays so
  for (Index i = 0; i < size; ++i) zeros += 0 * array[i];
  return zeros == 0;
}

}  // namespace convax::depthwise
