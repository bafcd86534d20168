/** Audit subject: where a node publishes its decision records, `audit.<cluster>.<region>.<node>`. Pure. */

export const auditSubjects = (cluster: string): string => `audit.${subjectToken(cluster)}.>`;

export function auditSubject(of: Readonly<{ cluster: string; region: string; node: string }>): string {
  return `audit.${subjectToken(of.cluster)}.${subjectToken(of.region)}.${subjectToken(of.node)}`;
}

/** A NATS subject token has no dots, spaces or wildcards. */
function subjectToken(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]/g, "_");
}
