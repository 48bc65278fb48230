import type { Request, Response } from "demo:storefront/handler@1.0.0";
import { decodeUtf8, encodeUtf8 } from "./utf8";

/** What a handler throws to end the request with an error. */
export class Problem {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly message: string,
    readonly headers: [string, string][] = [],
  ) {}

  response(): Response {
    return json(this.status, { error: this.code, message: this.message }, this.headers);
  }
}

/** A JSON response. */
export function json(status: number, value: unknown, headers: [string, string][] = []): Response {
  return {
    status,
    headers: [["content-type", "application/json"], ...headers],
    body: encodeUtf8(JSON.stringify(value) + "\n"),
  };
}

/** The value of the first header `name`, which is in lower case. */
export function header(request: Request, name: string): string | undefined {
  return request.headers.find(([header]) => header.toLowerCase() === name)?.[1];
}

/** The JSON object in the request's body. */
export function jsonBody(request: Request): Record<string, unknown> {
  const text = decodeUtf8(request.body ?? new Uint8Array());
  if (text === undefined) throw new Problem(400, "not-utf-8", "the body is not UTF-8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Problem(400, "not-json", `the body is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Problem(422, "not-an-object", "the body must be a JSON object");
  }
  return value as Record<string, unknown>;
}
