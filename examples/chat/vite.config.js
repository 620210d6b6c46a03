const tidings = process.env.TIDINGS_URL ?? 'http://127.0.0.1:4080'

export default {
  // The page and tidings on one origin, as a reverse proxy would have it.
  server: {
    proxy: { '/events': tidings, '/v1': tidings },
    // Packages that are linked from beside this folder.
    fs: { allow: ['../..'] },
  },
}
