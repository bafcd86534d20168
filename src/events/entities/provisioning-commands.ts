/**
 * Provisioning commands: what SCIM clients, directories and their operators want of people and groups. Only types; they
 * are part of the commands (commands.ts).
 */
import type { DirectoryMode, DirectoryPersonAnswer, DirectoryRunSummary } from "../directory-state.ts";
import type { Fact, GroupId, Hash, Position, UnixMs, UserId } from "../ids.ts";
import type { NeededLink } from "../link.ts";
import type { Profile } from "../profile.ts";
import type { ScimScope } from "../scim-token.ts";
import type { ScimGroup } from "./group-events.ts";

/** A change to a provisioned person (provisioned.ts). `client`: the name of a SCIM client, or of a directory. */
type ProvisionedWrite = Readonly<{
  userId: UserId;
  client: string;
  /** The version that the record must still have, or the command is refused; 0: there is none. */
  expected: number;
  /** The profile with the new record. */
  profile: Profile;
  /** People who sign in and correlate with it, as far as the sender knows. */
  people: readonly UserId[];
  /** Earlier user ids of the record, which have moved to this one. */
  aliases: readonly UserId[];
  /** The user that had the record until now; null: this one. `profile`: what it keeps. */
  movedFrom: Readonly<{ userId: UserId; expected: number; profile: Profile }> | null;
  /** The position at which the sender found the `userName` free among its client's people; absent: it did not look. */
  basis?: Position;
  /** The link at `basis`; absent: an older build sent it. */
  basisLink?: NeededLink;
}>;
/** The person is active at the SCIM client. */
export type WriteProvisionedUser = Fact<"writeProvisionedUser", ProvisionedWrite>;
/** The SCIM client has deactivated or deleted the person: sessions end, and new ones are refused. */
export type EndProvisionedUser = Fact<"endProvisionedUser", ProvisionedWrite>;
/**
 * A SCIM client or a directory is about to end the access of several people in one batch, which is judged whole. The
 * command itself changes nothing, unless it was held and an operator releases it.
 */
export type AnnounceEnds = Fact<
  "announceEnds",
  {
    client: string;
    /** Provisioned people. */
    users: readonly UserId[];
    /** People who sign in and correlate with them. */
    people: readonly UserId[];
    /** How many people the whole batch takes access or a group from. */
    losing: number;
    /** The sender has named everyone that it would end; absent: others may wait from an earlier batch. */
    isWhole?: boolean;
    /** Set where an operator has released it; no sender sets it. */
    isReleased?: true;
  }
>;
export type WriteProvisionedGroup = Fact<
  "writeProvisionedGroup",
  {
    groupId: GroupId;
    /** What the client says of the group now; null: the client has deleted it. */
    scim: ScimGroup | null;
    client: string;
    /** The version that the group of the client must still have, or the command is refused; 0: there is none. */
    expected: number;
    /** Provisioned people, and the people who correlate with them. */
    added: readonly UserId[];
    removed: readonly UserId[];
    /** The group's id before it was renamed; null: it was not. */
    renamedFrom: GroupId | null;
    /** The client has stated all members; absent: only the changes. */
    isWhole?: boolean;
    /** How many people the sender's whole batch takes something from. Absent: the sender does not say. */
    losing?: number;
    /** What the sender had applied when it read the group and its members; absent: it does not say. */
    basisLink?: NeededLink;
  }
>;
/** Gives a person who signs in the groups of the provisioned people who correlate, or ends their access. */
export type CorrelateUser = Fact<"correlateUser", { userId: UserId; provisioned: readonly UserId[] }>;
/** An operator asks for a run of a directory now. `removals`: the run may make every removal. */
export type RequestDirectorySync = Fact<
  "requestDirectorySync",
  { directory: string; requestId: string; removals: boolean }
>;
/** An operator wants the directory to be asked about one person who signs in. */
export type RequestDirectoryPerson = Fact<
  "requestDirectoryPerson",
  { directory: string; requestId: string; userId: UserId }
>;
/** What became of that request. */
export type CompleteDirectoryPerson = Fact<
  "completeDirectoryPerson",
  { directory: string; requestId: string; answer: Omit<DirectoryPersonAnswer, "answeredAt"> }
>;
/** The leader begins a run. Recorded before the first request to the directory. */
export type StartDirectorySync = Fact<
  "startDirectorySync",
  {
    directory: string;
    syncId: string;
    mode: DirectoryMode;
    /** The operator's request that this run answers; null: none. A later request waits for the next run. */
    answers: string | null;
  }
>;
/** The run of this id has ended. `complete`: what the directory has; null: not everything was read and applied. */
export type CompleteDirectorySync = Fact<
  "completeDirectorySync",
  {
    directory: string;
    syncId: string;
    summary: Omit<DirectoryRunSummary, "startedAt" | "endedAt">;
    complete: Readonly<{ people: number; groups: number; memberships: number; isNested: boolean }> | null;
    delta: string | null;
  }
>;
/** `secretHash`: the SHA-256 of the token's secret, hexadecimal. */
export type CreateScimToken = Fact<
  "createScimToken",
  {
    client: string;
    tokenId: string;
    secretHash: Hash;
    scopes: readonly ScimScope[];
    expiresAt: UnixMs | null;
    /** Revoked in the same event batch; null: none. */
    replaces: string | null;
  }
>;
export type RevokeScimToken = Fact<"revokeScimToken", { tokenId: string }>;
