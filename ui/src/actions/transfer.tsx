/** Handing the leadership to another master. */
import { own, post } from '~/api/client'
import { confirmAct } from '~/components/Dialog'
import { toast } from '~/components/Toast'

/** openTransfer hands the leadership to a master; without an id to whoever has come furthest. */
export function openTransfer(id: string | undefined, from: string): void {
  const to = id ?? 'the master that has come furthest'
  confirmAct({
    title: id === undefined ? 'Hand over the leadership' : `Let ${id} lead`,
    confirm: 'Hand over',
    children: (
      <>
        <p>
          <strong>{from}</strong> stops leading and <strong>{to}</strong> takes over, usually within a second. Agents and frameworks register there by themselves.
        </p>
        <p>Tasks run on. Outstanding offers are rescinded. This page goes on with the new leader.</p>
      </>
    ),
    run: async () => {
      await post(own + '/registry/transfer', id === undefined ? {} : { id })
      toast(`${to} takes over.`, { kind: 'info' })
    },
  })
}
