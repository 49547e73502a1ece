/** Weights of roles: how much more of the cluster one is due than its siblings. */
import { useSignal } from '@preact/signals'
import { call } from '~/api/client'
import { ConfirmDialog, openDialog } from '~/components/Dialog'
import { NumberField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { percent } from '~/format'
import { fairPart, wants, type RoleNode } from '~/pages/roles/tree'

/** openWeight changes the weight of a role among its siblings. */
export function openWeight(node: RoleNode, siblings: readonly RoleNode[]): void {
  openDialog((close) => <WeightDialog node={node} siblings={siblings} onClose={close} />)
}

function WeightDialog({ node, siblings, onClose }: { node: RoleNode; siblings: readonly RoleNode[]; onClose: () => void }) {
  const before = node.role?.weight ?? 1
  const weight = useSignal(before)
  const ok = weight.value > 0 && Number.isFinite(weight.value)
  const others = siblings.filter((s) => s !== node && wants(s))
  const sum = others.reduce((n, s) => n + (s.role?.weight ?? 1), 0)
  const of = node.parent === undefined ? 'the cluster' : `what ${node.parent.name} gets`
  const run = async (): Promise<void> => {
    await call('UPDATE_WEIGHTS', { weight_infos: [{ role: node.name, weight: weight.value }] })
    toast(`${node.name} has the weight ${weight.value}.`)
  }
  return (
    <ConfirmDialog title={`Weight of ${node.name}`} confirm="Set the weight" disabled={!ok || weight.value === before} run={run} onClose={onClose}>
      <NumberField label="Weight" value={weight} min={0} autofocus error={ok ? undefined : 'A number above 0'} hint="1 is the weight of a role that was given none." />
      {ok &&
        (others.length === 0 ? (
          <p>No other role beside it has a framework: it may have all of {of}, whatever its weight.</p>
        ) : (
          <p>
            When all want more than there is, it is due <strong>{percent(weight.value / (weight.value + sum), 1)}</strong> of {of}
            {wants(node) && weight.value !== before && (
              <>
                , instead of <strong>{percent(fairPart(node, siblings), 1)}</strong>
              </>
            )}
            , beside {others.map((s) => `${s.leaf} (${s.role?.weight ?? 1})`).join(', ')}.
          </p>
        ))}
      <p class="muted">Outstanding offers are rescinded and made anew. No task is killed.</p>
    </ConfirmDialog>
  )
}
