import { Colour, Perms, Person, Scalars, Shape } from "./wit/test-matrix-echo";
import * as echo from "./wit/test-matrix-echo";
import { Option, Result, Tuple2, Tuple6, char } from "./wit/abi";

export function scalarsOf(v: Scalars): Scalars { return echo.scalarsOf(v); }
export function truth(v: bool): bool { return echo.truth(v); }
export function unsigned(v: u64): u64 { return echo.unsigned(v); }
export function signed(v: i64): i64 { return echo.signed(v); }
export function single(v: f32): f32 { return echo.single(v); }
export function double(v: f64): f64 { return echo.double(v); }
export function letter(v: char): char { return echo.letter(v); }
export function text(v: string): string { return echo.text(v); }
export function bytes(v: Uint8Array): Uint8Array { return echo.bytes(v); }
export function nested(v: Array<Array<string>>): Array<Array<string>> { return echo.nested(v); }
export function pair(v: Tuple2<u32, string>): Tuple2<u32, string> { return echo.pair(v); }
export function people(v: Array<Person>): Array<Person> { return echo.people(v); }
export function shapeOf(v: Shape): Shape { return echo.shapeOf(v); }
export function colourOf(v: Colour): Colour { return echo.colourOf(v); }
export function permsOf(v: Perms): Perms { return echo.permsOf(v); }
export function maybe(v: Option<string>): Option<string> { return echo.maybe(v); }
export function deep(v: Option<Option<u32>>): Option<Option<u32>> { return echo.deep(v); }
export function small(a: u8, b: i8, c: u16, d: i16, e: u32, f: i32): Tuple6<u8, i8, u16, i16, u32, i32> {
  return echo.small(a, b, c, d, e, f);
}
export function results(v: Array<Result<u32, string>>): Array<Result<u32, string>> { return echo.results(v); }
export function outcome(fails: bool, number: u32, reason: string): Result<u32, string> {
  return echo.outcome(fails, number, reason);
}
