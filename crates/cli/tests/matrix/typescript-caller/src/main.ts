// Asks another component and hands on what it says.
import * as asked from "test:matrix/asked@1.0.0";
import type { Colour, Counter as Declared, Step } from "test:matrix/counters@1.0.0";
import * as echo from "test:matrix/echo@1.0.0";

export const relay = {
  scalarsOf: echo.scalarsOf,
  truth: echo.truth,
  unsigned: echo.unsigned,
  signed: echo.signed,
  single: echo.single,
  double: echo.double,
  letter: echo.letter,
  text: echo.text,
  bytes: echo.bytes,
  nested: echo.nested,
  pair: echo.pair,
  people: echo.people,
  shapeOf: echo.shapeOf,
  colourOf: echo.colourOf,
  permsOf: echo.permsOf,
  maybe: echo.maybe,
  deep: echo.deep,
  small: echo.small,
  results: echo.results,
  // The error of an import is an exception with the error in it; that of an export is the error itself.
  outcome(fails: boolean, number: number, reason: string): number {
    try {
      return echo.outcome(fails, number, reason);
    } catch (error) {
      throw (error as { payload: string }).payload;
    }
  },
};

/** How many counters there are; the engine tells of one that is dropped. */
let live = 0;

class Counter {
  constructor(private value: number, private readonly hue: Colour) {
    live += 1;
  }
  [Symbol.dispose]() {
    live -= 1;
  }
  add(step: Step): number {
    this.value += step.by + step.label.length;
    return this.value;
  }
  colour(): Colour {
    return this.hue;
  }
  static merge(a: Counter, b: Counter): Counter {
    return new Counter(a.value + b.value, b.hue);
  }
  read(): number {
    return this.value;
  }
}

/** What the contract calls a counter is one of these: nobody else can make one. */
const mine = (counter: Declared) => counter as Counter;

export const counters = {
  Counter,
  make: (start: number) => new Counter(start, "green"),
  read: (counter: Declared) => mine(counter).read(),
  close: (counter: Declared) => mine(counter).read(),
  live: () => live,
};

export const drive = {
  run(): Uint32Array {
    const a = new asked.Counter(40, "red");
    const added = a.add({ by: 2, label: "two" });
    const b = asked.make(7);
    const [read, two] = [asked.read(b), asked.live()];
    const merged = asked.Counter.merge(a, b);
    const colour = ["red", "green", "blue"].indexOf(merged.colour());
    const stillTwo = asked.live();
    const closed = asked.close(merged);
    const one = asked.live();
    b[Symbol.dispose]();
    return new Uint32Array([added, read, two, colour, stillTwo, closed, one, asked.live()]);
  },
};
