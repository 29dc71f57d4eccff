// Spatter: drops of water, with light on their edges as OpenCV's functions make it, or of mud.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "corruptions.hpp"

namespace apr {
namespace {

// A plane of numbers with a border of `Border` on every side.
template <class T, int Border>
struct Plane {
    T* data;
    int height, width;

    static std::size_t bytes(Extent extent) {
        const std::size_t count =
            static_cast<std::size_t>(extent.height + 2 * Border) * (extent.width + 2 * Border) * sizeof(T);
        return (count + 63) / 64 * 64;
    }
    T* row(int y) const { return data + static_cast<std::size_t>(y + Border) * (width + 2 * Border) + Border; }
};

// Hands out planes one after another.
struct Store {
    std::byte* next;
    Extent extent;

    template <class T, int Border>
    Plane<T, Border> plane() {
        const Plane<T, Border> out{reinterpret_cast<T*>(next), extent.height, extent.width};
        next += Plane<T, Border>::bytes(extent);
        return out;
    }
};

// What lies past the edge: the pixel at the edge, or the pixels mirrored without it.
enum class Edge { kRepeated, kMirrored };

template <class T>
void pad(const Plane<T, 1>& plane, Edge edge) {
    const int in = edge == Edge::kRepeated ? 0 : 1, width = plane.width, height = plane.height;
    for (int y = 0; y < height; ++y) {
        T* row = plane.row(y);
        row[-1] = row[in];
        row[width] = row[width - 1 - in];
    }
    std::copy_n(plane.row(in) - 1, width + 2, plane.row(-1) - 1);
    std::copy_n(plane.row(height - 1 - in) - 1, width + 2, plane.row(height) - 1);
}

// A Gaussian in SciPy's order: the pixels farthest off first. `T` is what each of its two passes rounds to.
template <class T>
void blur(double* plane, Extent extent, const Numbers& weights, double* sums, double* line) {
    const int height = extent.height, width = extent.width, radius = static_cast<int>(weights.size) - 1;
    const double* weight = weights.data;
    for (int y = 0; y < height; ++y) {
        double* to = sums + static_cast<std::size_t>(y) * width;
        const auto row = [=](int place) { return plane + static_cast<std::size_t>(std::clamp(place, 0, height - 1)) * width; };
        const double* here = row(y);
        for (int x = 0; x < width; ++x) to[x] = here[x] * weight[0];
        for (int off = radius; off > 0; --off) {
            const double *above = row(y - off), *below = row(y + off);
            for (int x = 0; x < width; ++x) to[x] += (above[x] + below[x]) * weight[off];
        }
    }
    double* middle = line + radius;
    for (int y = 0; y < height; ++y) {
        const double* from = sums + static_cast<std::size_t>(y) * width;
        double* to = plane + static_cast<std::size_t>(y) * width;
        for (int x = 0; x < width; ++x) middle[x] = static_cast<T>(from[x]);
        std::fill_n(line, radius, middle[0]);
        std::fill_n(middle + width, radius, middle[width - 1]);
        for (int x = 0; x < width; ++x) to[x] = middle[x] * weight[0];
        for (int off = radius; off > 0; --off) {
            for (int x = 0; x < width; ++x) to[x] += (middle[x - off] + middle[x + off]) * weight[off];
        }
        for (int x = 0; x < width; ++x) to[x] = static_cast<T>(to[x]);
    }
}

// ---- Edges ----

constexpr int kDark = 50, kBright = 150;
constexpr int kTangent = 13573;  // of 22.5 degrees, times 2^15

enum Mark : std::uint8_t { kNoEdge, kMaybe, kEdge };

struct Gradient {
    int across, down;
};
Gradient gradient_at(const Plane<std::uint8_t, 1>& image, int y, int x) {
    const std::uint8_t *above = image.row(y - 1) + x, *here = image.row(y) + x, *below = image.row(y + 1) + x;
    return {above[1] + 2 * here[1] + below[1] - above[-1] - 2 * here[-1] - below[-1],
            below[-1] + 2 * below[0] + below[1] - above[-1] - 2 * above[0] - above[1]};
}

bool is_ridge(const Plane<int, 1>& strength, const Gradient& gradient, int y, int x) {
    const int *above = strength.row(y - 1) + x, *here = strength.row(y) + x, *below = strength.row(y + 1) + x;
    const int flat = kTangent * std::abs(gradient.across), steep = std::abs(gradient.down) << 15;
    if (steep < flat) return *here > here[-1] && *here >= here[1];
    if (steep > flat + (std::abs(gradient.across) << 16)) return *here > *above && *here >= *below;
    const int side = (gradient.across ^ gradient.down) < 0 ? -1 : 1;
    return *here > above[-side] && *here > below[side];
}

// OpenCV's Canny: from strong maxima along the weak ones that touch them. `image` has its edge repeated; the border of
// `strength` is 0 and that of `marks` kNoEdge.
void find_edges(const Plane<std::uint8_t, 1>& image, const Plane<int, 1>& strength, const Plane<std::uint8_t, 1>& marks,
                std::uint8_t** waiting) {
    const int height = image.height, width = image.width;
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            const Gradient gradient = gradient_at(image, y, x);
            strength.row(y)[x] = std::abs(gradient.across) + std::abs(gradient.down);
        }
    }
    std::size_t count = 0;
    const auto take = [&](std::uint8_t* mark) {
        *mark = kEdge;
        waiting[count++] = mark;
    };
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            const int here = strength.row(y)[x];
            std::uint8_t* mark = marks.row(y) + x;
            *mark = here > kDark && is_ridge(strength, gradient_at(image, y, x), y, x) ? kMaybe : kNoEdge;
            if (*mark == kMaybe && here > kBright) take(mark);
        }
    }
    const std::ptrdiff_t row = width + 2;
    while (count > 0) {
        std::uint8_t* mark = waiting[--count];
        for (const std::ptrdiff_t to : {-row - 1, -row, -row + 1, std::ptrdiff_t{-1}, std::ptrdiff_t{1}, row - 1, row,
                                        row + 1}) {
            if (mark[to] == kMaybe) take(mark + to);
        }
    }
}

// ---- Distances, as OpenCV's transform of 5 × 5 adds them up in float32 ----

constexpr float kFar = 1e6f, kDiagonal = 1.4f, kKnight = 2.1969f, kDeepest = 20;

void find_distances(const Plane<std::uint8_t, 1>& marks, const Plane<float, 2>& distance) {
    const int height = marks.height, width = marks.width;
    std::fill_n(distance.row(-2) - 2, static_cast<std::size_t>(height + 4) * (width + 4), kFar);
    const auto nearer = [](float& reach, float other) { reach = std::min(reach, other); };
    // The rows that come before are on the other side the second time, and so are the pixels.
    for (const int back : {1, -1}) {
        for (int i = 0; i < height; ++i) {
            const int y = back == 1 ? i : height - 1 - i;
            const float *last = distance.row(y - back), *second = distance.row(y - 2 * back);
            float* here = distance.row(y);
            const std::uint8_t* mark = marks.row(y);
            for (int x = 0; x < width; ++x) {
                float reach = here[x];
                nearer(reach, last[x] + 1);
                nearer(reach, std::min(last[x - 1], last[x + 1]) + kDiagonal);
                nearer(reach, std::min(last[x - 2], last[x + 2]) + kKnight);
                nearer(reach, std::min(second[x - 1], second[x + 1]) + kKnight);
                here[x] = mark[x] == kEdge ? 0 : reach;
            }
            float* x = back == 1 ? here : here + width - 1;
            for (int j = 1; j < width; ++j, x += back) nearer(x[back], *x + 1);
        }
    }
}

// ---- The light on the drops ----

// Levels spread out so that their histogram is flat.
void equalize(const Plane<std::uint8_t, 1>& levels) {
    int counts[256] = {};
    for (int y = 0; y < levels.height; ++y) {
        for (int x = 0; x < levels.width; ++x) ++counts[levels.row(y)[x]];
    }
    int lowest = 0;
    while (counts[lowest] == 0) ++lowest;
    const int others = levels.height * levels.width - counts[lowest];
    if (others == 0) return;
    const float scale = 255.0f / static_cast<float>(others);
    std::uint8_t table[256] = {};
    for (int level = lowest + 1, sum = 0; level < 256; ++level) {
        sum += counts[level];
        table[level] = static_cast<std::uint8_t>(std::nearbyint(static_cast<float>(sum) * scale));
    }
    for (int y = 0; y < levels.height; ++y) {
        for (int x = 0; x < levels.width; ++x) levels.row(y)[x] = table[levels.row(y)[x]];
    }
}

// Calls put(y, x, above, here, below), pointers to the pixel and those over and under it.
template <class T, int Border, class Put>
void each_pixel(const Plane<T, Border>& plane, const Put& put) {
    for (int y = 0; y < plane.height; ++y) {
        const T *above = plane.row(y - 1), *here = plane.row(y), *below = plane.row(y + 1);
        for (int x = 0; x < plane.width; ++x) put(y, x, above + x, here + x, below + x);
    }
}

class Spatter final : public Corruption {
   public:
    Spatter(Extent extent, const double* numbers, const Numbers& liquid, const Numbers& mud)
        : extent_(extent),
          location_(numbers[0]),
          scale_(numbers[1]),
          threshold_(numbers[2]),
          strength_(static_cast<float>(numbers[3])),
          liquid_(liquid.data, liquid.data + liquid.size),
          mud_(mud.data, mud.data + mud.size) {}

    std::vector<std::size_t> fields() const override { return {extent_.pixels()}; }
    std::size_t scratch() const override {
        return 2 * Plane<double, 0>::bytes(extent_) + line() + 2 * Plane<std::uint8_t, 1>::bytes(extent_) +
               Plane<int, 1>::bytes(extent_) + Plane<float, 2>::bytes(extent_) + Plane<std::uint8_t*, 0>::bytes(extent_);
    }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        Store store{scratch, extent_};
        double* liquid = store.plane<double, 0>().data;
        double* sums = store.plane<double, 0>().data;
        double* row = reinterpret_cast<double*>(store.next);
        store.next += line();
        draws.normal(0, 0, extent_.pixels(), liquid, location_, scale_);
        blur<double>(liquid, extent_, {liquid_.data(), liquid_.size()}, sums, row);
        if (mud_.empty()) {
            water(in, liquid, &store, out);
        } else {
            for (std::size_t i = 0; i < extent_.pixels(); ++i) liquid[i] = liquid[i] > threshold_ ? 1 : 0;
            blur<float>(liquid, extent_, {mud_.data(), mud_.size()}, sums, row);
            mud(in, liquid, out);
        }
    }

   private:
    // Of the longest row with its ends.
    std::size_t line() const {
        return ((extent_.width + 2 * std::max(liquid_.size(), mud_.size())) * sizeof(double) + 63) / 64 * 64;
    }

    static std::uint8_t level_of(float unit) {
        return static_cast<std::uint8_t>(std::min(std::max(unit, 0.0f), 1.0f) * 255.0f);
    }

    void mud(const std::uint8_t* in, const double* mud, std::uint8_t* out) const {
        constexpr float color[3] = {static_cast<float>(63 / 255.0), static_cast<float>(42 / 255.0),
                                    static_cast<float>(20 / 255.0)};
        for (std::size_t i = 0; i < extent_.pixels(); ++i) {
            const float share = mud[i] < 0.8f ? 0 : static_cast<float>(mud[i]);
            for (std::size_t c = 0; c < 3; ++c) {
                const float light = static_cast<float>(in[3 * i + c]) / 255.0f;
                out[3 * i + c] = level_of(light * (1 - share) + color[c] * share);
            }
        }
    }

    void water(const std::uint8_t* in, const double* liquid, Store* store, std::uint8_t* out) const {
        constexpr float color[3] = {static_cast<float>(175 / 255.0), static_cast<float>(238 / 255.0),
                                    static_cast<float>(238 / 255.0)};
        const auto layer = store->plane<std::uint8_t, 1>();
        for (int y = 0; y < extent_.height; ++y) {
            for (int x = 0; x < extent_.width; ++x) {
                const double depth = liquid[static_cast<std::size_t>(y) * extent_.width + x];
                layer.row(y)[x] = static_cast<std::uint8_t>(depth < threshold_ ? 0 : static_cast<int>(depth * 255));
            }
        }
        const auto drops = light_on(layer, store);
        float highest = 0;
        each_pixel(drops, [&](int y, int x, auto, const float* drop, auto) {
            const_cast<float*>(drop)[0] *= static_cast<float>(layer.row(y)[x]);
            highest = std::max(highest, *drop);
        });
        if (highest == 0) {
            std::copy_n(in, extent_.bytes(), out);
            return;
        }
        for (int y = 0; y < extent_.height; ++y) {
            for (int x = 0; x < extent_.width; ++x, in += 3, out += 3) {
                const float drop = drops.row(y)[x] / highest * strength_;
                for (int c = 0; c < 3; ++c) out[c] = level_of(static_cast<float>(in[c]) / 255.0f + drop * color[c]);
            }
        }
    }

    // 0..255 for each pixel.
    Plane<float, 2> light_on(const Plane<std::uint8_t, 1>& layer, Store* store) const {
        const auto marks = store->plane<std::uint8_t, 1>();
        const auto strength = store->plane<int, 1>();
        const auto distance = store->plane<float, 2>();
        std::uint8_t** waiting = store->plane<std::uint8_t*, 0>().data;
        pad(layer, Edge::kRepeated);
        const std::size_t with_border = static_cast<std::size_t>(extent_.height + 2) * (extent_.width + 2);
        std::fill_n(strength.data, with_border, 0);
        std::fill_n(marks.data, with_border, std::uint8_t{kNoEdge});
        find_edges(layer, strength, marks, waiting);
        find_distances(marks, distance);
        // From here on `marks` holds levels.
        mean_depth(distance, marks);
        equalize(marks);
        pad(marks, Edge::kMirrored);
        const Plane<std::uint8_t, 1> lit{reinterpret_cast<std::uint8_t*>(strength.data), extent_.height, extent_.width};
        each_pixel(marks, [&](int y, int x, const std::uint8_t* above, const std::uint8_t* here,
                              const std::uint8_t* below) {
            const int sum = -2 * above[-1] - above[0] - here[-1] + here[0] + here[1] + below[0] + 2 * below[1];
            lit.row(y)[x] = static_cast<std::uint8_t>(std::clamp(sum, 0, 255));
        });
        pad(lit, Edge::kMirrored);
        each_pixel(lit, [&](int y, int x, const std::uint8_t* above, const std::uint8_t* here,
                            const std::uint8_t* below) {
            int sum = 0;
            for (int i = -1; i <= 1; ++i) sum += above[i] + here[i] + below[i];
            distance.row(y)[x] = static_cast<float>((2 * sum + 9) / 18);
        });
        return distance;
    }

    // The mean of nine depths, cut off at the deepest.
    void mean_depth(const Plane<float, 2>& distance, const Plane<std::uint8_t, 1>& levels) const {
        for (int y = 0; y < extent_.height; ++y) {
            for (int x = 0; x < extent_.width; ++x) distance.row(y)[x] = std::min(distance.row(y)[x], kDeepest);
        }
        // The innermost ring of the border takes the mirrored pixels.
        const int height = extent_.height, width = extent_.width;
        for (int y = 0; y < height; ++y) {
            distance.row(y)[-1] = distance.row(y)[1];
            distance.row(y)[width] = distance.row(y)[width - 2];
        }
        std::copy_n(distance.row(1) - 1, width + 2, distance.row(-1) - 1);
        std::copy_n(distance.row(height - 2) - 1, width + 2, distance.row(height) - 1);
        each_pixel(distance, [&](int y, int x, const float* above, const float* here, const float* below) {
            const auto three = [](const float* at) { return static_cast<double>(at[-1]) + at[0] + at[1]; };
            const double mean = (three(above) + three(here) + three(below)) * (1.0 / 9);
            levels.row(y)[x] = static_cast<std::uint8_t>(static_cast<float>(mean));
        });
    }

    Extent extent_;
    double location_, scale_, threshold_;
    float strength_;
    std::vector<double> liquid_, mud_;
};

}  // namespace

// Constants: location and scale of the liquid, its threshold, the strength of water; half the Gaussian of the liquid,
// from its middle on; the same of the mud, or nothing for water.
Made make_spatter(Extent extent, const Constants& constants) {
    const double* numbers = constants_at(constants, 0, 4);
    if (constants.size() != 3 || constants[1].size == 0) {
        throw std::invalid_argument("spatter needs the weights of two Gaussians, the second empty for water");
    }
    return std::make_unique<Spatter>(extent, numbers, constants[1], constants[2]);
}

}  // namespace apr
