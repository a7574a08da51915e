"""The web page and the HTTP interface: the same questions as the command line, asked by a browser or a script.

Decisions, the order of requests first:

- Every question is a frozen dataclass (``questions``); its answer is a pure function over the public interface
  (``answers``), run in a process of its own (``workers``) under a time limit and a memory limit. The process that
  serves the page computes nothing, so it always answers; a worker that is stuck is ended and replaced.
- Searches may take all workers but one, so a slider never waits for a search. A position of a slider that was left
  before a worker was free is never priced.
- The page answers with the design first. What takes as long again and changes nothing in it (the picks among the ties,
  what more of a resource would buy) follows where it is looked at, from a worker of low priority.
- An answer is kept under its question (``cache``); the same question asked twice at once is computed once.
- The state of the page is its URL (``state``); nothing is kept per visitor, so tabs cannot disturb each other and a
  reload comes back to where it was. Documents that a visitor opens are kept in memory under their digest.
- Names from the outside are looked up in catalogues, never joined to a path (``questions``), and other origins are
  refused before anything is read (``guard``).
"""
