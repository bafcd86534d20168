import { startNats } from "../support/nats.ts";
import { describeNatsFanout } from "./nats-fanout.ts";

describeNatsFanout("NATS", startNats);
