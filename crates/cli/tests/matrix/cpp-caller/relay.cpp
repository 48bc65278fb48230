// Asks another component and hands on what it says.
#include <vector>

#include "caller_cpp.h"

namespace echo = test::matrix::echo;

namespace exports::test::matrix::relay {

using Outcome_ = std::expected<uint32_t, wit::string>;

Scalars ScalarsOf(Scalars v) { return echo::ScalarsOf(v); }
bool Truth(bool v) { return echo::Truth(v); }
uint64_t Unsigned(uint64_t v) { return echo::Unsigned(v); }
int64_t Signed(int64_t v) { return echo::Signed(v); }
float Single(float v) { return echo::Single(v); }
double Double(double v) { return echo::Double(v); }
uint32_t Letter(uint32_t v) { return echo::Letter(v); }
wit::string Text(wit::string v) { return echo::Text(v.get_view()); }
wit::vector<uint8_t> Bytes(wit::vector<uint8_t> v) { return echo::Bytes(v.get_const_view()); }
wit::vector<Person> People(wit::vector<Person> v) { return echo::People(v.get_const_view()); }
Shape ShapeOf(Shape v) { return echo::ShapeOf(std::move(v)); }
Colour ColourOf(Colour v) { return echo::ColourOf(v); }
Perms PermsOf(Perms v) { return echo::PermsOf(v); }
wit::vector<Outcome_> Results(wit::vector<Outcome_> v) { return echo::Results(v.get_const_view()); }

wit::vector<wit::vector<wit::string>> Nested(wit::vector<wit::vector<wit::string>> v) {
    std::vector<std::vector<std::string_view>> views;
    for (auto const &inner : v.get_const_view()) {
        auto &list = views.emplace_back();
        for (auto const &text : inner.get_const_view()) list.push_back(text.get_view());
    }
    std::vector<std::span<std::string_view const>> spans(views.begin(), views.end());
    return echo::Nested(spans);
}

std::tuple<uint32_t, wit::string> Pair(std::tuple<uint32_t, wit::string> v) {
    return echo::Pair({std::get<0>(v), std::get<1>(v).get_view()});
}

std::optional<wit::string> Maybe(std::optional<wit::string> v) {
    return echo::Maybe(v ? std::optional(v->get_view()) : std::nullopt);
}

std::optional<std::optional<uint32_t>> Deep(std::optional<std::optional<uint32_t>> v) { return echo::Deep(v); }

std::tuple<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t> Small(uint8_t a, int8_t b, uint16_t c, int16_t d,
                                                                         uint32_t e, int32_t f) {
    return echo::Small(a, b, c, d, e, f);
}

Outcome_ Outcome(bool fails, uint32_t number, wit::string reason) {
    return echo::Outcome(fails, number, reason.get_view());
}

} // namespace exports::test::matrix::relay
