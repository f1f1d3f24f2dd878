/** What is wrong with a file, in one line that a person can act on; it quotes nothing of the file. */
export class ReadError extends Error {}
