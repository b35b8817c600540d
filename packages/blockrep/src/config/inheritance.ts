import type { VolumeDraft } from "./host-parser.ts";
import type { HostConfig, VolumeConfig } from "./model.ts";

/**
 * Give every host what stands at the resource level: missing volumes, and missing statements of those it has. A host that
 * writes `volume N {}` sections takes no unnumbered statements from the resource.
 */
export function withTemplates(hosts: readonly HostConfig[], templates: readonly VolumeDraft[]): HostConfig[] {
  return hosts.map((host) => ({ ...host, volumes: inherit(host, templates) }));
}

function inherit(host: HostConfig, templates: readonly VolumeConfig[]): VolumeConfig[] {
  const volumes = [...host.volumes];
  const explicit = volumes.some((v) => !v.implicit);
  for (const template of templates) {
    const i = volumes.findIndex((v) => v.vnr === template.vnr);
    const own = volumes[i];
    if (own !== undefined) {
      volumes[i] = {
        ...own,
        device: own.device ?? template.device,
        disk: own.disk ?? template.disk,
        metaDisk: own.metaDisk ?? template.metaDisk,
      };
    } else if (!(template.implicit && explicit)) {
      // as drbdadm does: options of the volume stay where they are written
      volumes.push({ ...template, diskOptions: [], at: host.at });
    }
  }
  return volumes.sort((a, b) => a.vnr - b.vnr);
}
