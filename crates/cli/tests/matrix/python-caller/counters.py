"""A resource; how many there are of it is counted."""
import wit_world.exports.counters

live = 0


class Counter(wit_world.exports.counters.Counter):
    def __init__(self, start, colour):
        global live
        live += 1
        self.value, self.hue = start, colour

    def __del__(self):
        global live
        live -= 1

    def add(self, step):
        self.value += step.by + len(step.label)
        return self.value

    def colour(self): return self.hue

    @classmethod
    def merge(cls, a, b): return cls(a.value + b.value, b.hue)
