// The JavaScript engine of this component has the language and no Web API: no TextEncoder, so it is here.

/** The UTF-8 bytes of `text`; a lone surrogate becomes U+FFFD, as the Encoding Standard has it. */
export function encodeUtf8(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    let code = character.codePointAt(0)!;
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) {
      bytes.push(code);
    } else if (code < 0x800) {
      bytes.push(0xc0 | (code >> 6), continuation(code));
    } else if (code < 0x10000) {
      bytes.push(0xe0 | (code >> 12), continuation(code >> 6), continuation(code));
    } else {
      bytes.push(0xf0 | (code >> 18), continuation(code >> 12), continuation(code >> 6), continuation(code));
    }
  }
  return Uint8Array.from(bytes);
}

/** The text of UTF-8 `bytes`, or undefined when they are not UTF-8 (RFC 3629). */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  const characters: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at]!;
    // How many bytes follow, what the first one contributes, and the least value that needs so many.
    const [count, high, least] =
      first < 0x80 ? [0, first, 0]
      : first >= 0xc0 && first < 0xe0 ? [1, first & 0x1f, 0x80]
      : first >= 0xe0 && first < 0xf0 ? [2, first & 0x0f, 0x800]
      : first >= 0xf0 && first < 0xf8 ? [3, first & 0x07, 0x10000]
      : [-1, 0, 0];
    if (count < 0 || at + count >= bytes.length) return undefined;
    let code = high;
    for (let next = at + 1; next <= at + count; next++) {
      if ((bytes[next]! & 0xc0) !== 0x80) return undefined;
      code = (code << 6) | (bytes[next]! & 0x3f);
    }
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return undefined;
    characters.push(String.fromCodePoint(code));
    at += count + 1;
  }
  return characters.join("");
}

const continuation = (bits: number) => 0x80 | (bits & 0x3f);
