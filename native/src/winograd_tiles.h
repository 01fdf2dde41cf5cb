// What the functions of Winograd's algorithm have in common: tiles of images, and the 36 planes
// that they are transformed to.
#pragma once

#include "scratch.h"
#include "tiles.h"
#include "window.h"
#include "winograd_transforms.h"

namespace convax::winograd {

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

inline Square<kIn> input_square(const Conv& c, const Tiles& tiles, Index tile) {
  const Index column = tile % tiles.columns, row = tile / tiles.columns % tiles.rows;
  return {tile / tiles.columns / tiles.rows, row * kOut - c.rows.low,
          column * kOut - c.columns.low};
}

inline Square<kOut> output_square(const Tiles& tiles, Index tile) {
  const Index column = tile % tiles.columns, row = tile / tiles.columns % tiles.rows;
  return {tile / tiles.columns / tiles.rows, row * kOut, column * kOut};
}

inline Image input_image(const Conv& c) { return {c.rows.size, c.columns.size, c.in}; }
inline Image output_image(const Conv& c) { return {c.rows.output, c.columns.output, c.out}; }

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
inline void transform_input(const Conv& c, const Tiles& tiles, const float* x, Index tile,
                            Index first, Index channels, const Planes& planes, Index offset) {
  const auto square = input_square(c, tiles, tile);
  Vector d[kPlanes], v[kPlanes];
  for (Index i = 0; i < channels; i += kLanes) {
    square.read(x, input_image(c), first + i, d);
    transform<InputTransform>(d, v);
    planes.write(offset + i, v);
  }
}

// Lanes that are not finite stay so however often they are added to; others add zero.
inline bool is_finite(Vector sum_of_zeros) {
  for (Index lane = 0; lane < kLanes; ++lane) {
    if (!(sum_of_zeros[lane] == 0)) return false;
  }
  return true;
}

inline bool is_empty(const Conv& c) {
  return c.batch == 0 || c.in == 0 || c.out == 0 || c.rows.size == 0 || c.columns.size == 0 ||
         c.rows.output == 0 || c.columns.output == 0;
}

}  // namespace convax::winograd
