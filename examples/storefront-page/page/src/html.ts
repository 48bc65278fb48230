// HTML that cannot be broken out of: what is put into a template is text, and is escaped, unless it came out of a template.

/** Markup that is safe to be written as it is. Only `html` makes it. */
export class Markup {
  private constructor(readonly text: string) {}

  /** For `html`, and for nobody else. */
  static trusted(text: string): Markup {
    return new Markup(text);
  }
}

type Part = Markup | string | number | readonly Part[];

/** A template: html`<p>${text}</p>`. Values stand in element content or in attributes with quotes. */
export function html(texts: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  let markup = texts[0]!;
  parts.forEach((part, index) => {
    markup += written(part) + texts[index + 1]!;
  });
  return Markup.trusted(markup);
}

function written(part: Part): string {
  if (part instanceof Markup) return part.text;
  if (typeof part === "string") return escaped(part);
  if (typeof part === "number") return String(part);
  return part.map(written).join("");
}

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Text with nothing in it that HTML would take for markup. */
export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}
