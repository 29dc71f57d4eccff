// What DALI hands over and takes: the DLPack capsules of a batch's samples, all of them in one call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

namespace apr {

// (address of each sample, shape, DLPack's type code, bits, device number) of samples of one shape and type, which are
// C-contiguous. The capsules stay as they are.
pybind11::tuple read_capsules(const pybind11::list& capsules);

// Capsules of `count` samples that lie end to end from `address` on. Who makes them keeps that memory.
pybind11::list make_capsules(std::uintptr_t address, int count, const pybind11::tuple& shape, int code, int bits,
                             int device_type, int device_id, bool framed);

// Of encoded images in capsules: whether each is a JPEG file of a plain header, as most are, with sides up to `longest`
// and less than `most` bytes of three channels. Others may be right as well.
pybind11::array_t<bool> plain_jpegs(const pybind11::list& capsules, std::int64_t longest, std::int64_t most);

}  // namespace apr
