// Spatter: drops of water, with light on their edges as OpenCV's functions make it, or of mud.
#include "levels.cuh"
#include "smooth.cuh"

// ---- Gaussians over fields, float64 (n, rows, columns) to (n, columns, rows); a second pass turns them back ----

extern "C" __global__ void __launch_bounds__(384)
smooth_liquid(const double* in, const double* weights, int reach, int rows, int columns, double* out) {
    smooth<1>(Symmetric{weights, reach}, rows, columns, [=](size_t i) { return in[i]; },
           [=](size_t i, double value) { out[i] = value; });
}

// Mud is where the liquid is above the threshold; each pass rounds to float32.
extern "C" __global__ void __launch_bounds__(384)
smooth_mud(const double* liquid, const double* weights, int reach, int rows, int columns, double threshold, float* out) {
    smooth<1>(Symmetric{weights, reach}, rows, columns, [=](size_t i) { return liquid[i] > threshold ? 1.0 : 0.0; },
           [=](size_t i, double value) { out[i] = static_cast<float>(value); });
}
extern "C" __global__ void __launch_bounds__(384)
smooth_mud_again(const float* halfway, const double* weights, int reach, int rows, int columns, float* out) {
    smooth<1>(Symmetric{weights, reach}, rows, columns, [=](size_t i) { return static_cast<double>(halfway[i]); },
           [=](size_t i, double value) { out[i] = static_cast<float>(value); });
}

extern "C" __global__ void __launch_bounds__(256)
cover_with_mud(IMAGE_PARAMETERS, int parts, const float* mud) {
    constexpr float kColor[3] = {63 / 255.0, 42 / 255.0, 20 / 255.0};
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const float found = place.in(mud, pixels)[place.at], share = found < 0.8f ? 0.f : found;
    const Level* const from = place.in(images, 3 * pixels) + 3 * place.at;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) to[c] = to_level(float_unit_of(from[c]) * (1 - share) + kColor[c] * share);
}

// ---- Edges: OpenCV's Canny ----

constexpr int kDark = 50, kBright = 150;
constexpr int kTangent = 13573;  // of 22.5 degrees, times 2^15

enum Mark { kNoEdge, kMaybe, kEdge };

struct Size {
    int height, width;

    INLINE int pixels() const { return height * width; }
    INLINE bool has(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }

    // Calls use(y, x, number) for the pixels that are dealt to this thread of the block.
    template <typename Use> INLINE void deal(Use use) const {
        for (int p = threadIdx.x; p < pixels(); p += blockDim.x) use(p / width, p % width, p);
    }
};

struct Gradient {
    int across, down;

    INLINE int strength() const { return abs(across) + abs(down); }
};

// Of an image whose edge is repeated.
INLINE Gradient gradient_at(const Level* image, const Size& size, int y, int x) {
    const Level* const above = image + repeated(y - 1, size.height) * size.width;
    const Level* const here = image + y * size.width;
    const Level* const below = image + repeated(y + 1, size.height) * size.width;
    const int left = repeated(x - 1, size.width), right = repeated(x + 1, size.width);
    return {above[right] + 2 * here[right] + below[right] - above[left] - 2 * here[left] - below[left],
            below[left] + 2 * below[x] + below[right] - above[left] - 2 * above[x] - above[right]};
}

// Whether the gradient is largest along its own direction, which is one of four; outside of the image it is 0.
INLINE bool is_ridge(const Level* image, const Size& size, const Gradient& gradient, int y, int x) {
    const int here = gradient.strength();
    const int flat = kTangent * abs(gradient.across), steep = abs(gradient.down) << 15;
    const bool horizontal = steep < flat, vertical = steep > flat + (abs(gradient.across) << 16);
    const int diagonal = (gradient.across ^ gradient.down) < 0 ? -1 : 1;
    const int down = horizontal ? 0 : 1, right = horizontal ? 1 : vertical ? 0 : diagonal;
    const auto strength = [&](int row, int column) {
        return size.has(row, column) ? gradient_at(image, size, row, column).strength() : 0;
    };
    const int before = strength(y - down, x - right), after = strength(y + down, x + right);
    return here > before && (horizontal || vertical ? here >= after : here > after);
}

// From strong maxima along the weak ones that touch them, until none is left: the order of the pixels does not matter.
INLINE void find_edges(const Level* image, const Size& size, Level* marks, int* changed) {
    size.deal([&](int y, int x, int p) {
        const Gradient gradient = gradient_at(image, size, y, x);
        const int strength = gradient.strength();
        const bool ridge = strength > kDark && is_ridge(image, size, gradient, y, x);
        marks[p] = !ridge ? kNoEdge : strength > kBright ? kEdge : kMaybe;
    });
    volatile Level* const seen = marks;
    for (bool again = true; again;) {
        __syncthreads();
        if (threadIdx.x == 0) *changed = 0;
        __syncthreads();
        size.deal([&](int y, int x, int p) {
            if (seen[p] != kMaybe) return;
            for (int i = 0; i < 9; ++i) {
                const int row = y + i / 3 - 1, column = x + i % 3 - 1;
                if (!size.has(row, column) || seen[row * size.width + column] != kEdge) continue;
                seen[p] = kEdge;
                *changed = 1;
            }
        });
        __syncthreads();
        again = *changed != 0;
    }
}

// ---- Distances, as OpenCV's transform of 5 × 5 adds them up in float32 ----

// What is as deep as the deepest need not be told apart: distances end there, after so many steps along a row.
constexpr float kDiagonal = 1.4f, kKnight = 2.1969f, kDeepest = 20;
constexpr int kSteps = STEPS, kBorder = BORDER;

// A plane with a border.
struct Depths {
    float* data;
    int pitch;

    INLINE float* row(int y) const { return data + static_cast<size_t>(y + kBorder) * pitch + kBorder; }
};

// To the nearest edge, from the rows before and then along the row, from the top (back = 1) or from the bottom (-1).
// `line` has a row with kSteps more on both sides, which are kDeepest.
INLINE void find_distances(const Level* marks, const Size& size, int back, const Depths& depths, float* line) {
    for (int i = 0; i < size.height; ++i) {
        const int y = back == 1 ? i : size.height - 1 - i;
        const float *const last = depths.row(y - back), *const second = depths.row(y - 2 * back);
        float* const here = depths.row(y);
        for (int x = threadIdx.x; x < size.width; x += blockDim.x) {
            float reach = fminf(here[x], last[x] + 1);
            reach = fminf(reach, fminf(last[x - 1], last[x + 1]) + kDiagonal);
            reach = fminf(reach, fminf(last[x - 2], last[x + 2]) + kKnight);
            reach = fminf(reach, fminf(second[x - 1], second[x + 1]) + kKnight);
            line[kSteps + x] = marks[y * size.width + x] == kEdge ? 0 : reach;
        }
        __syncthreads();
        for (int x = threadIdx.x; x < size.width; x += blockDim.x) {
            float reach = kDeepest;
#pragma unroll
            for (int j = kSteps - 1; j >= 0; --j) reach = fminf(reach + 1, line[kSteps + x - back * j]);
            here[x] = reach;
        }
        __syncthreads();
    }
}

// ---- The light on the drops ----

struct Shared {
    int changed, highest, lowest;
    unsigned counts[256];
    Level table[256];
};
static_assert(sizeof(Shared) == DROP_ROOM, "corrupt_shapes.py gives a block DROP_ROOM bytes");

// What equalizes levels: their histogram is as flat as can be.
INLINE void make_table(int pixels, Shared& shared) {
    const int lowest = shared.lowest, others = pixels - shared.counts[lowest];
    const float scale = 255.0f / static_cast<float>(others);
    for (int level = threadIdx.x; level < 256; level += blockDim.x) {
        unsigned sum = 0;
        for (int other = lowest + 1; other <= level; ++other) sum += shared.counts[other];
        const int flat = static_cast<int>(rintf(static_cast<float>(sum) * scale));
        shared.table[level] = static_cast<Level>(others == 0 ? level : flat);
    }
    __syncthreads();
}

// Calls use(i, place) for a pixel and its eight neighbors, row by row, mirrored at the edges.
template <typename Use> INLINE void for_nine(const Size& size, int y, int x, Use use) {
#pragma unroll
    for (int i = 0; i < 9; ++i) {
        const int row = mirrored(y + i / 3 - 1, size.height), column = mirrored(x + i % 3 - 1, size.width);
        use(i, row, column);
    }
}

// The mean of nine depths as a level.
INLINE Level mean_depth(const Depths& depths, const Size& size, int y, int x) {
    double rows[3] = {};
    for_nine(size, y, x, [&](int i, int row, int column) { rows[i / 3] += depths.row(row)[column]; });
    return static_cast<Level>(static_cast<float>((rows[0] + rows[1] + rows[2]) * (1.0 / 9)));
}

// Depths of liquid (n, H, W) to drops, levels times light (n, H, W), and the highest of them (n,). A block has an image.
// The rest is room: `planes` for three planes of levels, `distances` with a border, `lines` with kSteps on both sides.
// Grid: n.
extern "C" __global__ void __launch_bounds__(1024)
light_on_drops(const double* liquid, int height, int width, double threshold, Level* planes, float* distances,
               float* lines, int* drops, int* highest) {
    SHARED(Shared, shared);
    constexpr int kEmboss[9] = {-2, -1, 0, -1, 1, 1, 0, 1, 2};
    const Size size{height, width};
    const size_t b = blockIdx.x, first = b * size.pixels();
    Level *const layer = planes + 3 * first, *const marks = layer + size.pixels(), *const light = marks + size.pixels();
    const int pitch = width + 2 * kBorder, with_border = pitch * (height + 2 * kBorder);
    const Depths depths{distances + b * with_border, pitch};
    float* const line = lines + b * (width + 2 * kSteps);
    for (int i = threadIdx.x; i < with_border; i += blockDim.x) depths.data[i] = kDeepest;
    for (int i = threadIdx.x; i < width + 2 * kSteps; i += blockDim.x) line[i] = kDeepest;
    for (int i = threadIdx.x; i < 256; i += blockDim.x) shared->counts[i] = 0;
    if (threadIdx.x == 0) shared->highest = 0, shared->lowest = 255;
    size.deal([&](int, int, int p) {
        const double depth = liquid[first + p];
        layer[p] = static_cast<Level>(depth < threshold ? 0 : static_cast<int>(depth * 255));
    });
    __syncthreads();
    find_edges(layer, size, marks, &shared->changed);
    find_distances(marks, size, 1, depths, line);
    find_distances(marks, size, -1, depths, line);
    // From here on `marks` holds levels.
    int lowest = 255;
    size.deal([&](int y, int x, int p) {
        const int level = mean_depth(depths, size, y, x);
        marks[p] = static_cast<Level>(level);
        lowest = min(lowest, level);
        atomicAdd(&shared->counts[level], 1u);
    });
    atomicMin(&shared->lowest, lowest);
    __syncthreads();
    make_table(size.pixels(), *shared);
    size.deal([&](int y, int x, int p) {
        int sum = 0;
        for_nine(size, y, x, [&](int i, int row, int column) {
            if (kEmboss[i] != 0) sum += kEmboss[i] * shared->table[marks[row * width + column]];
        });
        light[p] = static_cast<Level>(min(max(sum, 0), 255));
    });
    __syncthreads();
    int most = 0;
    size.deal([&](int y, int x, int p) {
        int sum = 0;
        for_nine(size, y, x, [&](int, int row, int column) { sum += light[row * width + column]; });
        const int drop = (2 * sum + 9) / 18 * layer[p];
        drops[first + p] = drop;
        most = max(most, drop);
    });
    atomicMax(&shared->highest, most);
    __syncthreads();
    if (threadIdx.x == 0) highest[b] = shared->highest;
}

extern "C" __global__ void __launch_bounds__(256)
cover_with_water(IMAGE_PARAMETERS, int parts, const int* drops, const int* highest, float strength) {
    constexpr float kColor[3] = {175 / 255.0, 238 / 255.0, 238 / 255.0};
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const float most = highest[place.image];
    const float drop = most == 0 ? 0.f : place.in(drops, pixels)[place.at] / most * strength;
    const Level* const from = place.in(images, 3 * pixels) + 3 * place.at;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        to[c] = most == 0 ? from[c] : static_cast<Level>(to_level(float_unit_of(from[c]) + drop * kColor[c]));
    }
}
