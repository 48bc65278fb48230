// The goods, the people and the orders of a small shop. They are constants: every request gets a fresh instance
// of this component, so nothing that it keeps in memory outlives the request.
import { Problem } from "./http";

export interface Product {
  id: string;
  name: string;
  cents: number;
}

export interface Line {
  product: string;
  quantity: number;
}

export interface Order {
  id: string;
  customer: string;
  lines: Line[];
  cents: number;
}

export const products: Product[] = [
  { id: "mortise", name: "Mortise chisel, 8 mm", cents: 3450 },
  { id: "saw", name: "Dovetail saw", cents: 7900 },
  { id: "mallet", name: "Joiner's mallet", cents: 2800 },
  { id: "glue", name: "Fish glue, 500 g – “Kölner Leim” 🐟", cents: 1290 },
];

/** Who may log in, and what they may do. */
export const people: Record<string, string[]> = {
  ada: ["orders:read", "orders:write"],
  bob: ["orders:read"],
};

export const orders: Order[] = [
  priced("1001", "ada", [{ product: "saw", quantity: 1 }]),
  priced("1002", "bob", [{ product: "mallet", quantity: 2 }]),
  priced("1003", "ada", [{ product: "glue", quantity: 3 }, { product: "mortise", quantity: 1 }]),
];

const LINES_MAX = 20;
const QUANTITY_MAX = 100;

/** The lines of an order as a customer sent them, checked. */
export function checkedLines(value: unknown): Line[] {
  const invalid = (message: string) => new Problem(422, "invalid-order", message);
  if (!Array.isArray(value) || value.length < 1 || value.length > LINES_MAX) {
    throw invalid(`\`lines\` must be a list of 1 to ${LINES_MAX} lines`);
  }
  return value.map((line: unknown, index) => {
    const { product, quantity } = Object(line) as Record<string, unknown>;
    if (typeof product !== "string" || !products.some(({ id }) => id === product)) {
      throw invalid(`line ${index + 1}: there is no product ${JSON.stringify(product)}`);
    }
    if (!Number.isInteger(quantity) || (quantity as number) < 1 || (quantity as number) > QUANTITY_MAX) {
      throw invalid(`line ${index + 1}: \`quantity\` must be a whole number from 1 to ${QUANTITY_MAX}`);
    }
    return { product, quantity: quantity as number };
  });
}

/** An order with its price. */
export function priced(id: string, customer: string, lines: Line[]): Order {
  const price = (id: string) => products.find((product) => product.id === id)!.cents;
  return { id, customer, lines, cents: lines.reduce((sum, line) => sum + line.quantity * price(line.product), 0) };
}
