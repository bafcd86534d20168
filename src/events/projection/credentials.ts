/** Credentials: the devices and service accounts of a projection. Pure. */
import type { CredentialEvent } from "../entities/credential-events.ts";
import { type DeviceId, type ServiceAccountId, type UserId, unreachable } from "../ids.ts";
import { deviceStream, type Stream, serviceAccountStream, userStream } from "../streams.ts";
import type { CapturedEntity, EntityKind } from "./capture.ts";
import { type Device, evolveDevice, removeDevice, revokeServiceAccount, type ServiceAccount } from "./state.ts";

type Parts = Readonly<{
  /** Changes the digest. */
  replace: (kind: string, before: object | undefined, after: object | undefined) => void;
  /** Called before an entity changes. */
  preserve: (kind: EntityKind, id: string, before: () => CapturedEntity | undefined) => void;
}>;

export class Credentials {
  readonly devices = new Map<DeviceId, Device>();
  readonly serviceAccounts = new Map<ServiceAccountId, ServiceAccount>();
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** @returns the changed streams */
  evolve(event: CredentialEvent): readonly Stream[] {
    switch (event.type) {
      case "DeviceEnrolled":
      case "DeviceApproved":
        this.#putDevice(event.deviceId, evolveDevice(this.devices.get(event.deviceId), event));
        return [deviceStream(event.deviceId), userStream(event.userId)];
      case "DeviceRemoved":
        this.denyDevice(event.deviceId, event.userId);
        return [deviceStream(event.deviceId), userStream(event.userId)];
      case "ServiceAccountCreated":
        if (!this.serviceAccounts.has(event.serviceAccountId)) {
          const { type: _, ...account } = event;
          this.#putServiceAccount({ ...account, revoked: false });
        }
        return [serviceAccountStream(event.serviceAccountId)];
      case "ServiceAccountRevoked":
        this.denyServiceAccount(event.serviceAccountId, event.userId);
        return [serviceAccountStream(event.serviceAccountId)];
      default:
        return unreachable(event);
    }
  }

  /** @param userId from the event; null: it names none */
  denyDevice(deviceId: DeviceId, userId: UserId | null): void {
    this.#putDevice(deviceId, removeDevice(this.devices.get(deviceId), deviceId, userId));
  }

  /** @param userId from the event; null: it names none */
  denyServiceAccount(id: ServiceAccountId, userId: UserId | null): void {
    this.#putServiceAccount(revokeServiceAccount(this.serviceAccounts.get(id), id, userId));
  }

  #putDevice(id: DeviceId, device: Device | undefined): void {
    if (device === undefined) return;
    const before = this.devices.get(id);
    this.#parts.preserve("device", id, () => before && { kind: "device", entity: before });
    this.#parts.replace("device", before, device);
    this.devices.set(id, device);
  }

  #putServiceAccount(account: ServiceAccount): void {
    const id = account.serviceAccountId;
    const before = this.serviceAccounts.get(id);
    this.#parts.preserve("service-account", id, () => before && { kind: "service-account", entity: before });
    this.#parts.replace("service-account", before, account);
    this.serviceAccounts.set(id, account);
  }
}
