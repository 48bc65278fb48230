import type { Colour, Perms, Person, Scalars, Shape } from "test:matrix/echo@1.0.0";

const same = <T>(v: T): T => v;

export const echo = {
  scalarsOf: same<Scalars>,
  truth: same<boolean>,
  unsigned: same<number>,
  signed: same<number>,
  single: same<number>,
  double: same<number>,
  letter: same<string>,
  text: same<string>,
  bytes: same<Uint8Array>,
  nested: same<string[][]>,
  pair: same<[number, string]>,
  people: same<Person[]>,
  shapeOf: same<Shape>,
  colourOf: same<Colour>,
  permsOf: same<Perms>,
  maybe: same<string | null>,
  outcome(fails: boolean, number: number, reason: string): number {
    if (fails) throw reason;
    return number;
  },
};
