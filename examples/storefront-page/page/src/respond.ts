// A representation becomes a response: validators, conditions, what browsers are told.
import type { Request, Response } from "demo:page/handler@1.0.0";
import { encodeUtf8 } from "./utf8";

/** What a resource looks like in one media type and language. */
export interface Representation {
  type: string;
  text: string;
  language?: string;
  /** How long a client or a cache may use it without asking. */
  seconds: number;
}

/** The value of the first header `name`, which is in lower case. */
export function header(request: Request, name: string): string | undefined {
  return request.headers.find(([header]) => header.toLowerCase() === name)?.[1];
}

/** The response to a GET or HEAD of something that is there. */
export function found(request: Request, shown: Representation): Response {
  const body = encodeUtf8(shown.text);
  const tag = entityTag(body);
  const headers: [string, string][] = [
    ["etag", tag],
    ["cache-control", `public, max-age=${shown.seconds}`],
    ["vary", "accept, accept-language"],
    ...described(shown),
  ];
  if (matches(header(request, "if-none-match"), tag)) {
    // RFC 9110, section 15.4.5: what describes the body stays away with it.
    return { status: 304, headers: headers.filter(([name]) => !name.startsWith("content-")), body: new Uint8Array() };
  }
  return { status: 200, headers, body: request.method === "HEAD" ? new Uint8Array() : body };
}

/** The response to what is not there, or is asked for in a way it cannot be had. */
export function failed(request: Request, status: number, shown: Representation, more: [string, string][] = []): Response {
  const body = request.method === "HEAD" ? new Uint8Array() : encodeUtf8(shown.text);
  return { status, headers: [["cache-control", "no-store"], ...described(shown), ...more], body };
}

function described(shown: Representation): [string, string][] {
  const headers: [string, string][] = [["content-type", `${shown.type}; charset=utf-8`]];
  if (shown.language !== undefined) headers.push(["content-language", shown.language]);
  if (shown.type === "text/html") {
    // Should escaping ever fail, a script still does not run.
    headers.push(["content-security-policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"]);
  }
  headers.push(["x-content-type-options", "nosniff"]);
  return headers;
}

/** A tag that is another one when the bytes are: two FNV-1a hashes of 32 bits. Nobody gains by two bodies with one tag. */
export function entityTag(body: Uint8Array): string {
  let [a, b] = [0x811c9dc5, 0x01234567];
  for (const byte of body) {
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x01000193) ^ (a >>> 15);
  }
  const hex = (half: number) => (half >>> 0).toString(16).padStart(8, "0");
  return `"${hex(a)}${hex(b)}-${body.length}"`;
}

/** Whether `If-None-Match` names the tag (RFC 9110, section 13.1.2), compared weakly. */
function matches(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === "*") return true;
  return header.split(",").some((one) => one.trim().replace(/^W\//, "") === tag);
}
