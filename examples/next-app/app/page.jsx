import { currentUser } from '../lib/session.js';
import { logIn, logOut } from './actions.js';
import { Live } from './live.jsx';

export default async function Page() {
  const user = await currentUser();
  if (user === null) {
    return (
      <form action={logIn}>
        <label>
          Name <input name="user" required pattern="[a-z0-9]{1,20}" />
        </label>
        <button>Log in</button>
      </form>
    );
  }
  return (
    <main>
      <h1>Hello, {user}</h1>
      <Live user={user} />
      <form action={logOut}>
        <button>Log out</button>
      </form>
    </main>
  );
}
