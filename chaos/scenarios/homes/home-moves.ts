/** An operator moves the home region by one command, while everybody works. */
import type { Scenario } from "../scenario.ts";

export const homeMoves: Scenario = {
  name: "home-moves",
  topology: "movable-home",
  fault: "The home region moves from eu to us by one command.",
  promise:
    "Changes are acknowledged in every region within 30 s, and at most 15 s pass without any; a revocation is enforced everywhere.",
  boundS: 30,
  changesCluster: true,
  async play(game) {
    const { visitors, operators } = game;
    const [spare, revoked] = [await visitors.arrive(), await visitors.arrive()];
    const move = operators.moveHome("us");
    const gapMs = await operators.longestGap(spare, "ap", move);
    await game.holds(`${gapMs} ms, at most 15 s, pass without an acknowledged change`, async () => {
      return { holds: gapMs <= 15_000, seen: `${gapMs} ms` };
    });
    for (const region of ["eu", "us", "ap"])
      await game.within(`a change is acknowledged in ${region}`, operators.changes(spare, region));
    const { link } = await operators.revokeOnce(revoked, "ap");
    await game.within("the receipt of a revocation is complete", operators.complete(link, "ap"));
    await game.holds("every region refuses the session", visitors.denied("eu", "app", revoked));
  },
};
