// Content negotiation (RFC 9110, section 12).

interface Range {
  value: string;
  quality: number;
}

/** The ranges of an `Accept…` header with their weights (section 12.4.2). */
function ranges(header: string): Range[] {
  return header
    .split(",")
    .map((range) => {
      const [value, ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
      const weight = parameters.find((parameter) => parameter.startsWith("q="));
      const quality = weight === undefined ? 1 : Number(weight.slice(2));
      return { value: value!, quality: quality >= 0 && quality <= 1 ? quality : 0 };
    })
    .filter(({ value }) => value !== "");
}

/** The weight that the most specific of the ranges gives to a media type (section 12.5.1). */
function mediaQuality(all: Range[], type: string): number {
  const [main] = type.split("/");
  for (const value of [type, `${main}/*`, "*/*"]) {
    const range = all.find((range) => range.value === value);
    if (range !== undefined) return range.quality;
  }
  return 0;
}

/** The media type to answer with, or undefined when the client takes none of them. The first of `offers` goes before. */
export function mediaType<T extends string>(accept: string | undefined, offers: readonly T[]): T | undefined {
  if (accept === undefined || accept.trim() === "") return offers[0];
  const all = ranges(accept);
  return best(offers, (offer) => mediaQuality(all, offer));
}

/** The language to answer in (section 12.5.4): the first of `offers` when none of them is wanted. */
export function language<T extends string>(accept: string | undefined, offers: readonly T[]): T {
  const all = ranges(accept ?? "");
  const quality = (offer: string) => {
    // Basic filtering (RFC 4647, section 3.3.1), with the wanted and the offered exchanged: `de-AT` is content with `de`.
    const range = all.find(({ value }) => value === offer || value.startsWith(`${offer}-`)) ?? all.find(({ value }) => value === "*");
    return range?.quality ?? 0;
  };
  return best(offers, quality) ?? offers[0]!;
}

function best<T>(offers: readonly T[], quality: (offer: T) => number): T | undefined {
  let found: T | undefined;
  let highest = 0;
  for (const offer of offers) {
    if (quality(offer) > highest) {
      highest = quality(offer);
      found = offer;
    }
  }
  return found;
}
