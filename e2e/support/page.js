// The script of the pages in which the client is tested: the package, and a recorder around it.

import * as client from '@tidings/client';

import { recorder } from './recorder.js';

globalThis.suite = recorder(client);
