// Levels replaced by those of a table for each channel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace apr {

using Table = std::array<std::uint8_t, 256>;
using Tables = std::array<Table, 3>;

// `in` and `out` are pixels of three bytes and do not overlap.
void look_up(const Tables& tables, const std::uint8_t* in, std::uint8_t* out, std::size_t pixels);

}  // namespace apr
