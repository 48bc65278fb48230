import wit_world.exports
from wit_world.imports import asked, echo

import counters


class Relay(wit_world.exports.Relay):
    def scalars_of(self, v): return echo.scalars_of(v)
    def truth(self, v): return echo.truth(v)
    def unsigned(self, v): return echo.unsigned(v)
    def signed(self, v): return echo.signed(v)
    def single(self, v): return echo.single(v)
    def double(self, v): return echo.double(v)
    def letter(self, v): return echo.letter(v)
    def text(self, v): return echo.text(v)
    def bytes(self, v): return echo.bytes(v)
    def nested(self, v): return echo.nested(v)
    def pair(self, v): return echo.pair(v)
    def people(self, v): return echo.people(v)
    def shape_of(self, v): return echo.shape_of(v)
    def colour_of(self, v): return echo.colour_of(v)
    def perms_of(self, v): return echo.perms_of(v)
    def maybe(self, v): return echo.maybe(v)
    def deep(self, v): return echo.deep(v)
    def small(self, a, b, c, d, e, f): return echo.small(a, b, c, d, e, f)
    def results(self, v): return echo.results(v)
    # An error is an exception, which passes through.
    def outcome(self, fails, number, reason): return echo.outcome(fails, number, reason)


class Counters(wit_world.exports.Counters):
    def make(self, start): return counters.Counter(start, echo.Colour.GREEN)
    def read(self, counter): return counter.value
    def close(self, counter): return counter.value
    def live(self): return counters.live


class Drive(wit_world.exports.Drive):
    def run(self):
        a = asked.Counter(40, echo.Colour.RED)
        added = a.add(asked.Step(2, "two"))
        with asked.make(7) as b:
            read, two = asked.read(b), asked.live()
            merged = asked.Counter.merge(a, b)
            colour, still_two = merged.colour().value, asked.live()
            closed, one = asked.close(merged), asked.live()
        return [added, read, two, colour, still_two, closed, one, asked.live()]
