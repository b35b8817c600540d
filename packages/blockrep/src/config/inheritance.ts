import type { VolumeDraft } from "./host-parser.ts";
import type { HostConfig, VolumeConfig } from "./model.ts";

/**
 * Give every host what stands at the resource level: missing volumes, and missing statements of those it has. Statements
 * without a number are volume 0, and fill in a host's `volume 0 {}` too.
 */
export function withTemplates(hosts: readonly HostConfig[], templates: readonly VolumeDraft[]): HostConfig[] {
  return hosts.map((host) => ({ ...host, volumes: inherit(host, templates) }));
}

function inherit(host: HostConfig, templates: readonly VolumeConfig[]): VolumeConfig[] {
  const volumes = [...host.volumes];
  for (const template of templates) {
    const i = volumes.findIndex((v) => v.vnr === template.vnr);
    const own = volumes[i];
    if (own !== undefined) {
      volumes[i] = {
        ...own,
        device: own.device ?? template.device,
        disk: own.disk ?? template.disk,
        metaDisk: own.metaDisk ?? template.metaDisk,
        inheritedDiskOptions: template.diskOptions,
      };
    } else {
      volumes.push({ ...template, diskOptions: [], inheritedDiskOptions: template.diskOptions, at: host.at });
    }
  }
  return volumes.sort((a, b) => a.vnr - b.vnr);
}
