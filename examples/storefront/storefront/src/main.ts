// The business logic: what each route answers. Who is asking is the component `auth`'s to say, and which route a
// request is for is `routing`'s.
import { issueToken } from "demo:auth/issue@1.0.0";
import { verifyToken, type AuthError, type Claims } from "demo:auth/verify@1.0.0";
import { allowedMethods, matchRoute, type Route } from "demo:routing/match@1.0.0";
import type { Request, Response } from "demo:storefront/handler@1.0.0";
import { header, json, jsonBody, Problem } from "./http";
import { checkedLines, orders, people, priced, products } from "./shop";

const TOKEN_SECONDS_MAX = 3600;

/** Routes by the name that `routing` gives them. */
const routes: Record<string, (request: Request, params: Record<string, string>) => Response> = {
  index: () => json(200, { service: "storefront", products: "/products", login: "/login", orders: "/orders" }),

  // The example has no passwords: whoever names somebody gets their token.
  login: (request) => {
    const { user, seconds = TOKEN_SECONDS_MAX } = jsonBody(request);
    if (typeof seconds !== "number" || !Number.isInteger(seconds) || seconds < 1 || seconds > TOKEN_SECONDS_MAX) {
      throw new Problem(422, "invalid-seconds", `\`seconds\` must be a whole number from 1 to ${TOKEN_SECONDS_MAX}`);
    }
    if (typeof user !== "string" || !Object.hasOwn(people, user)) {
      throw new Problem(401, "unknown-user", `nobody here is called ${JSON.stringify(user)}`);
    }
    const token = issueToken(user, people[user]!, seconds);
    return json(200, { token, token_type: "Bearer", expires_in: seconds, scope: people[user]!.join(" ") });
  },

  products: () => json(200, { products }),
  "cheapest-product": () => json(200, products.reduce((least, next) => (next.cents < least.cents ? next : least))),
  product: (_, { id }) => json(200, known(products, id!, "product")),

  orders: (request) => {
    const { subject } = bearer(request, "orders:read");
    return json(200, { orders: orders.filter(({ customer }) => customer === subject) });
  },

  order: (request, { id }) => {
    const { subject } = bearer(request, "orders:read");
    // Somebody else's order is as unknown as one that was never placed.
    return json(200, known(orders.filter(({ customer }) => customer === subject), id!, "order"));
  },

  "create-order": (request) => {
    const { subject } = bearer(request, "orders:write");
    const order = priced("1004", subject, checkedLines(jsonBody(request)["lines"]));
    return json(201, order, [["location", `/orders/${order.id}`]]);
  },
};

function handle(request: Request): Response {
  try {
    const route = routeOf(request);
    return routes[route.name]!(request, Object.fromEntries(route.params));
  } catch (error) {
    if (error instanceof Problem) return error.response();
    throw error;
  }
}

function routeOf({ method, path }: Request): Route {
  const route = matchRoute(method, path);
  if (route !== null) return route;
  const allowed = allowedMethods(path).join(", ");
  if (allowed === "") throw new Problem(404, "not-found", `there is nothing at ${path}`);
  throw new Problem(405, "method-not-allowed", `${path} takes ${allowed}`, [["allow", allowed]]);
}

/** What the request's token says, if it is valid and has `scope`. */
function bearer(request: Request, scope: string): Claims {
  const [scheme, token] = (header(request, "authorization") ?? "").split(" ", 2);
  if (scheme!.toLowerCase() !== "bearer" || !token) {
    throw new Problem(401, "no-token", "this needs a token: `authorization: Bearer TOKEN`", challenge());
  }
  const claims = verified(token);
  if (!claims.scopes.includes(scope)) {
    throw new Problem(403, "missing-scope", `${claims.subject} may not do this: the token lacks ${scope}`);
  }
  return claims;
}

function verified(token: string): Claims {
  try {
    return verifyToken(token);
  } catch (thrown) {
    // The error case of a WIT result arrives as an exception with the error in `payload`.
    const refusal = (thrown as { payload?: AuthError }).payload;
    if (refusal === undefined) throw thrown;
    throw new Problem(401, refusal.tag, because(refusal), challenge("invalid_token"));
  }
}

function because(refusal: AuthError): string {
  switch (refusal.tag) {
    case "malformed":
      return `this is not a token: ${refusal.val}`;
    case "unsupported-algorithm":
      return `the token must be signed with HS256, not ${refusal.val}`;
    case "bad-signature":
      return "the token was not signed here, or was changed since";
    case "expired":
      return `the token expired at ${new Date(Number(refusal.val) * 1000).toISOString()}`;
  }
}

/** RFC 6750, section 3. */
function challenge(error?: string): [string, string][] {
  return [["www-authenticate", error === undefined ? "Bearer" : `Bearer error="${error}"`]];
}

function known<T extends { id: string }>(all: T[], id: string, what: string): T {
  const found = all.find((one) => one.id === id);
  if (found === undefined) throw new Problem(404, `no-such-${what}`, `there is no ${what} ${JSON.stringify(id)}`);
  return found;
}

export const handler = { handle };
