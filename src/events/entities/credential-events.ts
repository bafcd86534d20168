/** Credential events: devices and service accounts. Only types; they are part of the catalog (catalog.ts). */
import type { DeviceId, Fact, ServiceAccountId, UnixMs, UserId } from "../ids.ts";
import type { RevocationReason } from "../session-events.ts";

export type DeviceEnrolled = Fact<
  "DeviceEnrolled",
  { deviceId: DeviceId; userId: UserId; typeId: string; enrolledAt: UnixMs }
>;
export type DeviceApproved = Fact<"DeviceApproved", { deviceId: DeviceId; userId: UserId; approvedBy: UserId }>;
export type DeviceRemoved = Fact<"DeviceRemoved", { deviceId: DeviceId; userId: UserId }>;
export type ServiceAccountCreated = Fact<
  "ServiceAccountCreated",
  { serviceAccountId: ServiceAccountId; userId: UserId; expiresAt: UnixMs | null; description: string }
>;
export type ServiceAccountRevoked = Fact<
  "ServiceAccountRevoked",
  { serviceAccountId: ServiceAccountId; userId: UserId; reason: RevocationReason }
>;

export type CredentialEvent =
  | DeviceEnrolled
  | DeviceApproved
  | DeviceRemoved
  | ServiceAccountCreated
  | ServiceAccountRevoked;
