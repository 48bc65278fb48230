#pragma once
#include <cstdint>
#include <functional>

#include "wit.h"

namespace exports::test::matrix::counters {

// How many there are is counted where they are made and where they end.
class Counter : public wit::ResourceExportBase<Counter> {
public:
    static inline uint32_t live = 0;

    Counter(uint32_t start, ::test::matrix::echo::Colour colour) : value(start), hue(colour) { ++live; }
    ~Counter() { --live; }

    static Owned New(uint32_t start, ::test::matrix::echo::Colour colour) { return Owned(new Counter(start, colour)); }
    static void Dtor(Counter *self) { delete self; }
    uint32_t Add(Step step);
    ::test::matrix::echo::Colour Colour();
    static Owned Merge(Owned a, std::reference_wrapper<const Counter> b);

    static int32_t ResourceNew(Counter *self);
    static Counter *ResourceRep(int32_t id);
    static void ResourceDrop(int32_t id);

    uint32_t value;
    ::test::matrix::echo::Colour hue;
};

} // namespace exports::test::matrix::counters
