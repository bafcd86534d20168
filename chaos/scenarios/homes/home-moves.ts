/** An operator moves the home region by one command, while everybody works. */
import type { Scenario } from "../scenario.ts";

export const homeMoves: Scenario = {
  name: "home-moves",
  topology: "movable-home",
  fault: "The home region moves from eu to us by one command.",
  promise:
    "Changes are acknowledged in every region within 30 s, and at most 5 s pass without any; a revocation is enforced everywhere.",
  boundS: 30,
  changesCluster: true,
  async play(game) {
    const { visitors, operators } = game;
    const [spare, revoked] = [await visitors.arrive(), await visitors.arrive()];
    await game.measured("the longest time without an acknowledged change", 5, () =>
      operators.longestGap(spare, "ap", operators.moveHome("us")),
    );
    const regions = ["eu", "us", "ap"];
    for (const region of regions)
      await game.within(`a change is acknowledged in ${region}`, operators.changes(spare, region));
    const { link } = await operators.revokeOnce(revoked, "ap");
    await game.within("the receipt of a revocation is complete", operators.complete(link, "ap"));
    for (const region of regions)
      await game.holds(`${region} refuses the session`, visitors.denied(region, "app", revoked));
  },
};
