// Arguments of a job, as people write them: one JSON object.

import { ApiError, exact } from "../api.js";

/** Return the arguments that a text holds. Throws what is wrong with the field `arguments`. */
export function readArguments(text) {
  let value;
  try {
    value = exact(text);
  } catch (error) {
    throw refusal(`This is no JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw refusal("The arguments are one JSON object, {...}.");
  return value;
}

const refusal = (message) => new ApiError(422, message, [{ field: "arguments", message }]);
