// The pages of a shop, made for each request. What is sold, the component `catalogue` knows.
import { products as productsIn, type Product, type Unavailable } from "demo:page/catalogue@1.0.0";
import type { Request, Response } from "demo:page/handler@1.0.0";
import { language, mediaType } from "./negotiate";
import { failed, found, header, type Representation } from "./respond";
import { apology, detail, list, style, type Language } from "./shop";

const LANGUAGES: readonly Language[] = ["en", "de"];
const TYPES = ["text/html", "application/json"] as const;

/** How long a page may be shown without asking again: stock changes. A style changes rarely. */
const PAGE_SECONDS = 10;
const STYLE_SECONDS = 86_400;

function handle(request: Request): Response {
  const path = request.path.split("?")[0]!;
  if (request.method !== "GET" && request.method !== "HEAD") {
    return failed(request, 405, text("GET and HEAD are what there is\n"), [["allow", "GET, HEAD"]]);
  }
  if (path === "/style.css") return found(request, { type: "text/css", text: style, seconds: STYLE_SECONDS });
  const type = mediaType(header(request, "accept"), TYPES);
  if (type === undefined) return failed(request, 406, text(`there are ${TYPES.join(" and ")}\n`));
  const tongue = language(header(request, "accept-language"), LANGUAGES);
  const as = (html: string, json: unknown): Representation => ({
    type,
    text: type === "text/html" ? html : JSON.stringify(json) + "\n",
    language: tongue,
    seconds: PAGE_SECONDS,
  });

  let products: Product[];
  try {
    products = productsIn(tongue === "de" ? "german" : "english");
  } catch (thrown) {
    // The error case of a WIT result arrives as an exception with the error in `payload`; anything else is a fault of ours.
    const reason = (thrown as { payload?: Unavailable }).payload;
    if (reason === undefined) throw thrown;
    return failed(request, 503, as(apology(tongue, "broken"), { error: `catalogue-${reason}` }));
  }
  if (path === "/") return found(request, as(list(products, tongue), { products }));
  const product = products.find(({ id }) => path === `/products/${id}`);
  if (product !== undefined) return found(request, as(detail(product, tongue), product));
  return failed(request, 404, as(apology(tongue, "missing"), { error: "not-found" }));
}

function text(content: string): Representation {
  return { type: "text/plain", text: content, seconds: 0 };
}

export const handler = { handle };
