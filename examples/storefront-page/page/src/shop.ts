// What the pages say, in HTML and in JSON.
import type { Product } from "demo:page/catalogue@1.0.0";
import { html, type Markup } from "./html";

export type Language = "en" | "de";

const words = {
  en: {
    title: "The tool shop",
    stock: (count: number) => (count === 0 ? "sold out" : count < 5 ? `only ${count} left` : "in stock"),
    back: "All tools",
    missing: "There is nothing here.",
    broken: "The shop is closed for the moment.",
    price: (cents: number) => `€${amount(cents, ".")}`,
  },
  de: {
    title: "Der Werkzeugladen",
    stock: (count: number) => (count === 0 ? "ausverkauft" : count < 5 ? `nur noch ${count} da` : "vorrätig"),
    back: "Alle Werkzeuge",
    missing: "Hier ist nichts.",
    broken: "Der Laden ist im Augenblick geschlossen.",
    price: (cents: number) => `${amount(cents, ",")} €`,
  },
};

/** The engine has no `Intl`; a price is simple enough. */
function amount(cents: number, point: string): string {
  return `${Math.floor(cents / 100)}${point}${String(cents % 100).padStart(2, "0")}`;
}

/** The page of all products. */
export function list(products: Product[], language: Language): string {
  const { title, stock, price } = words[language];
  const items = products.map(
    (product) => html`
      <li>
        <a href="/products/${product.id}">${product.name}</a>
        <data value="${product.cents}">${price(product.cents)}</data>
        <small>${stock(product.stock)}</small>
      </li>`,
  );
  return page(language, title, html`<h1>${title}</h1><ul>${items}
    </ul>`);
}

/** The page of one product. */
export function detail(product: Product, language: Language): string {
  const { stock, back, price } = words[language];
  return page(
    language,
    product.name,
    html`<h1>${product.name}</h1>
    <p>${product.about}</p>
    <p><data value="${product.cents}">${price(product.cents)}</data> <small>${stock(product.stock)}</small></p>
    <p><a href="/">${back}</a></p>`,
  );
}

/** A page that says what is not there. */
export function apology(language: Language, what: "missing" | "broken"): string {
  const { title, back } = words[language];
  return page(language, title, html`<h1>${words[language][what]}</h1><p><a href="/">${back}</a></p>`);
}

function page(language: Language, title: string, body: Markup): string {
  return html`<!doctype html>
<html lang="${language}">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>${title}</title>
    <link rel="stylesheet" href="/style.css">
  </head>
  <body>
    ${body}
  </body>
</html>
`.text;
}

export const style = `body { font: 1.1rem/1.5 serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
ul { list-style: none; padding: 0 }
li { display: flex; gap: 1rem; border-top: 1px solid; padding: 0.5rem 0 }
li a { flex: 1 }
`;
