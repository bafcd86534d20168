/**
 * Simulated identity provider: rotates refresh tokens, and revokes a family if one of its tokens is presented twice.
 *
 * - It is slow at times, and occasionally dismisses a person.
 * - A token is `FAMILY.NUMBER`. Number 0 is the token from the sign-in.
 */
import type { SessionId } from "../../src/events/index.ts";
import type { World } from "./world.ts";

export type ProviderAnswer =
  | Readonly<{ type: "tokens"; refreshToken: string }>
  /** `invalid_grant`. Only the provider and the monitors know the reason. */
  | Readonly<{ type: "refused"; because: "reuse" | "dismissal" }>;

type Family = { next: number; ended: "reuse" | "dismissal" | null };

const dismisses = 0.08;

export const firstRefreshToken = (family: SessionId): string => `${family}.0`;

export class SimProvider {
  readonly #random: ReturnType<World["random"]>;
  readonly #families = new Map<string, Family>();

  constructor(world: World) {
    this.#random = world.random("provider");
  }

  present(token: string): ProviderAnswer {
    const dot = token.lastIndexOf(".");
    const name = token.slice(0, dot);
    const family = this.#families.get(name) ?? { next: 0, ended: null };
    this.#families.set(name, family);
    if (family.ended !== null) return { type: "refused", because: family.ended };
    if (Number(token.slice(dot + 1)) !== family.next) {
      family.ended = "reuse";
      return { type: "refused", because: "reuse" };
    }
    if (this.#random.chance(dismisses)) {
      family.ended = "dismissal";
      return { type: "refused", because: "dismissal" };
    }
    family.next += 1;
    return { type: "tokens", refreshToken: `${name}.${family.next}` };
  }
}
