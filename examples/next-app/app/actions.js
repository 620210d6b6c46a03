'use server';

import { revalidatePath } from 'next/cache';
import { beginSession, currentUser, endSession } from '../lib/session.js';
import { tidings } from '../lib/tidings.js';

export async function logIn(form) {
  await beginSession(String(form.get('user')));
  revalidatePath('/');
}

export async function logOut() {
  await endSession();
  revalidatePath('/');
}

/** Makes the job in the name of the user, who may then watch it. */
export async function startExport(rows) {
  const user = await currentUser();
  if (user === null || !Number.isInteger(rows)) throw new Error('not allowed');
  const { id } = await tidings().jobs.create('generate-report', { rows }, { subject: user, tags: [`user:${user}`] });
  return id;
}

export async function notify(form) {
  const user = await currentUser();
  if (user === null) throw new Error('not allowed');
  await tidings().publish({ channel: `user:${user}`, event: 'notification', data: { text: String(form.get('text')) } });
}
