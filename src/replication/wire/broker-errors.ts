/** Errors of a client of the databroker API that are about this process or its brokers, not about the moment. */
import { CodedError } from "../../events/index.ts";
import type { AnswerRefusal } from "./signed-answer.ts";

/** The brokers refuse this process: its secret or clock is wrong, or its role may not make the call. */
export class BrokerRefusedError extends CodedError<"ERR_REPLICATION_BROKER_REFUSED"> {
  override readonly code = "ERR_REPLICATION_BROKER_REFUSED";
  readonly status: number;
  constructor(status: number, problem: string) {
    super(problem);
    this.status = status;
  }
}

/** Another party answered instead of a broker, or altered its answer. The client tries the next broker. */
export class AnswerNotBelievedError extends CodedError<"ERR_REPLICATION_ANSWER_NOT_BELIEVED"> {
  override readonly code = "ERR_REPLICATION_ANSWER_NOT_BELIEVED";
  readonly refusal: AnswerRefusal;
  constructor(refusal: AnswerRefusal) {
    super(`rejected an answer that is not from a broker of this cluster: ${refusal}`);
    this.refusal = refusal;
  }
}

export class InsecureBrokerUrlError extends CodedError<"ERR_REPLICATION_INSECURE_BROKER_URL"> {
  override readonly code = "ERR_REPLICATION_INSECURE_BROKER_URL";
  constructor(url: URL) {
    super(`${url.origin}: brokers outside loopback must be reached over https`);
  }
}
