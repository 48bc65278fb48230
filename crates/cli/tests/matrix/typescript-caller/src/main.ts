// Asks another component and hands on what it says.
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
