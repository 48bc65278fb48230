#include "provider_cpp.h"

namespace exports::test::matrix::echo {

Scalars ScalarsOf(Scalars v) { return v; }
bool Truth(bool v) { return v; }
uint64_t Unsigned(uint64_t v) { return v; }
int64_t Signed(int64_t v) { return v; }
float Single(float v) { return v; }
double Double(double v) { return v; }
uint32_t Letter(uint32_t v) { return v; }
wit::string Text(wit::string v) { return v; }
wit::vector<uint8_t> Bytes(wit::vector<uint8_t> v) { return v; }
wit::vector<wit::vector<wit::string>> Nested(wit::vector<wit::vector<wit::string>> v) { return v; }
std::tuple<uint32_t, wit::string> Pair(std::tuple<uint32_t, wit::string> v) { return v; }
wit::vector<Person> People(wit::vector<Person> v) { return v; }
Shape ShapeOf(Shape v) { return v; }
Colour ColourOf(Colour v) { return v; }
Perms PermsOf(Perms v) { return v; }
std::optional<wit::string> Maybe(std::optional<wit::string> v) { return v; }

std::expected<uint32_t, wit::string> Outcome(bool fails, uint32_t number, wit::string reason) {
    if (fails) return std::unexpected(std::move(reason));
    return number;
}

} // namespace exports::test::matrix::echo
