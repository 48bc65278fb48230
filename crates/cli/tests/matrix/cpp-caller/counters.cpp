// A resource, and all that can be done with the one of another component.
#include "caller_cpp.h"

namespace asked = test::matrix::asked;

namespace exports::test::matrix::counters {

uint32_t Counter::Add(Step step) {
    value += step.by + step.label.size();
    return value;
}
::test::matrix::echo::Colour Counter::Colour() { return hue; }
Counter::Owned Counter::Merge(Owned a, std::reference_wrapper<const Counter> b) {
    return New(a->value + b.get().value, b.get().hue);
}

Counter::Owned Make(uint32_t start) { return Counter::New(start, ::test::matrix::echo::Colour::kGreen); }
uint32_t Read(std::reference_wrapper<const Counter> counter) { return counter.get().value; }
uint32_t Close(Counter::Owned counter) { return counter->value; }
uint32_t Live() { return Counter::live; }

} // namespace exports::test::matrix::counters

namespace exports::test::matrix::drive {

wit::vector<uint32_t> Run() {
    asked::Counter a(40, asked::Colour::kRed);
    auto found = wit::vector<uint32_t>::allocate(8);
    found[0] = a.Add(asked::Step{2, wit::string::from_view("two")});
    {
        auto b = asked::Make(7);
        found[1] = asked::Read(b);
        found[2] = asked::Live();
        auto merged = asked::Counter::Merge(std::move(a), b);
        found[3] = static_cast<uint32_t>(merged.Colour());
        found[4] = asked::Live();
        found[5] = asked::Close(std::move(merged));
        found[6] = asked::Live();
    }
    found[7] = asked::Live();
    return found;
}

} // namespace exports::test::matrix::drive
