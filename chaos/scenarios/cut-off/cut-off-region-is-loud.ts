/** A region is cut off for longer than any lease: an operator sees it until it is back. */
import type { Scenario } from "../scenario.ts";

export const cutOffRegionIsLoud: Scenario = {
  name: "cut-off-region-is-loud",
  topology: "three-regions",
  fault: "us loses every other region.",
  promise: "`cardea cluster status` exits 1 and calls us cut off within 25 s, and exits 0 within 40 s of healing.",
  boundS: 25,
  async play(game) {
    const { operators } = game;
    const status = ["cluster", "status"];
    const cut = await game.fault("cut-region", "us");
    await game.within("status calls us cut off", operators.cliSays("eu", status, { code: 1, out: /^us .*CUT OFF/m }));
    await game.within(
      "status in us says that home is out of reach",
      operators.cliSays("us", status, { code: 1, out: /region us: home out of reach/ }),
    );
    await cut.heal();
    await game.within("status is well again", operators.cliSays("eu", status, { code: 0, out: /^us .*ok/m }), 40);
  },
};
